#include "io/stored_type.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <utility>

namespace sg {
namespace {

static_assert(int(StoredType::u8) == int(Dtype::u8), "dtypes come first in StoredType");
static_assert(std::endian::native == std::endian::little, "files are read as little-endian");

struct Entry {
  StoredType type;
  size_t size;
  Dtype dtype;
};
constexpr std::array kTypes{
    Entry{StoredType::f32, 4, Dtype::f32}, Entry{StoredType::bf16, 2, Dtype::bf16},
    Entry{StoredType::f64, 8, Dtype::f64}, Entry{StoredType::i32, 4, Dtype::i32},
    Entry{StoredType::u8, 1, Dtype::u8},   Entry{StoredType::f16, 2, Dtype::f32},
    Entry{StoredType::i64, 8, Dtype::i32}, Entry{StoredType::i16, 2, Dtype::i32},
    Entry{StoredType::i8, 1, Dtype::i32},  Entry{StoredType::boolean, 1, Dtype::u8},
};

float half_to_float(uint16_t h) {
  const int exponent = (h >> 10) & 31, fraction = h & 1023;
  const float magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                          : exponent     ? std::ldexp(float(1024 + fraction), exponent - 25)
                                         : std::ldexp(float(fraction), -24);
  return std::copysign(magnitude, h & 0x8000 ? -1.0f : 1.0f);
}

constexpr uint32_t kTooLargeForHalf = 0x477ff000;  // 65520 as a float: it rounds to 2^16

// To the nearest, of two the even one; what is too large becomes infinity.
uint16_t float_to_half(float value) {
  const uint32_t all = std::bit_cast<uint32_t>(value), sign = all >> 16 & 0x8000;
  const uint32_t magnitude = all & 0x7fffffff;
  if (magnitude >= 0x7f800000) return uint16_t(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (magnitude >= kTooLargeForHalf) return uint16_t(sign | 0x7c00);
  if (magnitude < 0x38800000) {
    // Below 2^-14 halves are multiples of 2^-24, as floats are from 0.5 to 1: the sum rounds.
    const float sum = std::bit_cast<float>(magnitude) + 0.5f;
    return uint16_t(sign | (std::bit_cast<uint32_t>(sum) - std::bit_cast<uint32_t>(0.5f)));
  }
  return uint16_t(sign | (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

template <class S, class D, class F>
int64_t convert_as(const std::byte* from, int64_t stride, int64_t count, std::byte* to,
                   F&& element) {
  for (int64_t i = 0; i < count; ++i) {
    S source;
    std::memcpy(&source, from + i * stride * int64_t(sizeof(S)), sizeof source);
    if constexpr (std::is_same_v<S, int64_t>)
      if (!std::in_range<int32_t>(source)) return i;
    const D value = element(source);
    std::memcpy(to + i * int64_t(sizeof(D)), &value, sizeof value);
  }
  return count;
}

template <class T>
int64_t copy_as(const std::byte* from, int64_t stride, int64_t count, std::byte* to) {
  if (stride != 1) return convert_as<T, T>(from, stride, count, to, std::identity());
  if (count > 0) std::memcpy(to, from, size_t(count) * sizeof(T));
  return count;
}

}  // namespace

size_t size_of(StoredType type) { return kTypes[size_t(type)].size; }
Dtype dtype_of(StoredType type) { return kTypes[size_t(type)].dtype; }

StoredType stored_type(Dtype dtype, std::optional<StoredType> wanted) {
  const bool floating = dtype == Dtype::f32 || dtype == Dtype::bf16 || dtype == Dtype::f64;
  return wanted && floating ? *wanted : StoredType(dtype);
}

std::vector<std::byte> encode(std::string_view name, const Tensor& tensor, StoredType type) {
  const Tensor converted = tensor.to(type == StoredType::f16 ? Dtype::f32 : dtype_of(type));
  std::vector<std::byte> bytes(size_t(converted.numel()) * size_of(type));
  if (type == StoredType::f16)
    for (int64_t i = 0; i < converted.numel(); ++i) {
      const float value = converted.data<float>()[i];
      if (std::isfinite(value) && std::abs(value) >= std::bit_cast<float>(kTooLargeForHalf))
        fail(ExitCode::failure, "tensor '{}': {} is too large for f16; use bf16 or f32", name,
             value);
      const uint16_t half = float_to_half(value);
      std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
  else if (!bytes.empty())
    std::memcpy(bytes.data(), converted.raw(), bytes.size());
  return bytes;
}

int64_t convert(StoredType type, const std::byte* from, int64_t stride, int64_t count,
                std::byte* to) {
  const auto to_int = [](auto value) { return int32_t(value); };
  switch (type) {
    case StoredType::f16:
      return convert_as<uint16_t, float>(from, stride, count, to, half_to_float);
    case StoredType::i64:
      return convert_as<int64_t, int32_t>(from, stride, count, to, to_int);
    case StoredType::i16:
      return convert_as<int16_t, int32_t>(from, stride, count, to, to_int);
    case StoredType::i8:
      return convert_as<int8_t, int32_t>(from, stride, count, to, to_int);
    case StoredType::boolean:
      return convert_as<uint8_t, uint8_t>(from, stride, count, to,
                                          [](uint8_t value) { return uint8_t(value != 0); });
    case StoredType::u8:
      return copy_as<uint8_t>(from, stride, count, to);
    case StoredType::bf16:
      return copy_as<uint16_t>(from, stride, count, to);
    case StoredType::f64:
      return copy_as<uint64_t>(from, stride, count, to);
    case StoredType::f32:
    case StoredType::i32:
      return copy_as<uint32_t>(from, stride, count, to);
  }
  return 0;
}

}  // namespace sg
