#include "core/stored_type.h"

#include <array>
#include <cmath>
#include <cstring>
#include <utility>

namespace sg {
namespace {

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

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
bool store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
  return true;
}

float half_to_float(uint16_t h) {
  const int exponent = (h >> 10) & 31, fraction = h & 1023;
  const float magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                          : exponent     ? std::ldexp(float(1024 + fraction), exponent - 25)
                                         : std::ldexp(float(fraction), -24);
  return std::copysign(magnitude, h & 0x8000 ? -1.0f : 1.0f);
}

}  // namespace

size_t size_of(StoredType type) { return kTypes[size_t(type)].size; }
Dtype dtype_of(StoredType type) { return kTypes[size_t(type)].dtype; }

bool convert_element(StoredType type, const std::byte* from, std::byte* to) {
  switch (type) {
    case StoredType::f16:
      return store(to, half_to_float(load<uint16_t>(from)));
    case StoredType::i64: {
      const auto value = load<int64_t>(from);
      return std::in_range<int32_t>(value) && store(to, int32_t(value));
    }
    case StoredType::i16:
      return store(to, int32_t(load<int16_t>(from)));
    case StoredType::i8:
      return store(to, int32_t(load<int8_t>(from)));
    case StoredType::boolean:
      return store(to, uint8_t(load<uint8_t>(from) != 0));
    default:
      std::memcpy(to, from, size_of(type));
      return true;
  }
}

}  // namespace sg
