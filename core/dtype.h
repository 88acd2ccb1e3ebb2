// Element types and the one way to turn a run-time dtype into a template parameter.
#pragma once
#include <bit>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "core/error.h"

namespace sg {

enum class Dtype : uint8_t { f32, bf16, f64, i32, u8 };

// bfloat16 storage; arithmetic is done in float. constexpr lets device code use it too.
struct bf16 {
  uint16_t bits;
  bf16() = default;
  constexpr explicit bf16(float v) : bits(0) {
    const uint32_t u = std::bit_cast<uint32_t>(v);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? uint16_t((u >> 16) | 0x40) : uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  }
  constexpr explicit operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
};

size_t size_of(Dtype dtype);
// What statistics, sums and parameters that are no operand of a matmul have beside
// activations of `dtype`: f32 beside bf16, else the same.
constexpr Dtype acc_dtype(Dtype dtype) { return dtype == Dtype::bf16 ? Dtype::f32 : dtype; }
std::string_view name_of(Dtype dtype);
Dtype parse_dtype(std::string_view name);  // throws ExitCode::usage

template <class T>
constexpr Dtype dtype_of() {
  if constexpr (std::is_same_v<T, float>) return Dtype::f32;
  if constexpr (std::is_same_v<T, bf16>) return Dtype::bf16;
  if constexpr (std::is_same_v<T, double>) return Dtype::f64;
  if constexpr (std::is_same_v<T, int32_t>) return Dtype::i32;
  if constexpr (std::is_same_v<T, uint8_t>) return Dtype::u8;
}

// dispatch<float, double>(x.dtype(), "layer_norm", [&]<class T>() { ... });
template <class... Ts, class F>
void dispatch(Dtype dtype, std::string_view op, F&& f) {
  const auto try_one = [&]<class T>(std::type_identity<T>) {
    if (dtype != dtype_of<T>()) return false;
    f.template operator()<T>();
    return true;
  };
  const bool found = (try_one(std::type_identity<Ts>{}) || ...);
  check(found, "{}: dtype {} is not supported here", op, name_of(dtype));
}

}  // namespace sg
