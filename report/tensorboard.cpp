#include "report/tensorboard.h"

#include <array>
#include <bit>

namespace sg::report {
namespace {

static_assert(std::endian::native == std::endian::little);

template <class T>
std::string bytes_of(T value) {
  const auto raw = std::bit_cast<std::array<char, sizeof(T)>>(value);
  return {raw.data(), raw.size()};
}

std::string varint(uint64_t v) {
  std::string out;
  for (; v >= 0x80; v >>= 7) out += char(v | 0x80);
  return out + char(v);
}

// Fields of a protocol buffer; the wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four.
std::string key(int field, int wire) { return varint(uint64_t(field << 3 | wire)); }
std::string real64(int field, double v) { return key(field, 1) + bytes_of(v); }
std::string real32(int field, float v) { return key(field, 5) + bytes_of(v); }
std::string integer(int field, int64_t v) { return key(field, 0) + varint(uint64_t(v)); }
std::string text(int field, std::string_view v) {
  return key(field, 2) + varint(v.size()) + std::string(v);
}

std::string masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return bytes_of(uint32_t((crc >> 15 | crc << 17) + 0xa282ead8u));
}

std::string record(const std::string& data) {
  const std::string length = bytes_of(uint64_t(data.size()));
  return length + masked_crc(length) + data + masked_crc(data);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> t;
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0x82f63b78u : 0u);
    }
    return t;
  }();
  uint32_t crc = ~0u;
  for (char c : bytes) crc = crc >> 8 ^ table[(crc ^ uint8_t(c)) & 0xff];
  return ~crc;
}

std::string tensorboard_header(double wall_time) {
  return record(real64(1, wall_time) + text(3, "brain.Event:2") + text(10, text(1, "sgtrain")));
}

std::string unnamed_tensorboard_header(double wall_time) {
  return record(real64(1, wall_time) + text(3, "brain.Event:2"));
}

bool is_own_tensorboard_file(std::string_view begin) {
  const std::string header = tensorboard_header(0);
  const size_t from = 12 + real64(1, 0).size();  // length and its CRC, the time
  const size_t to = header.size() - 4;           // the CRC of all
  return begin.size() >= to &&
         begin.substr(from, to - from) == std::string_view(header).substr(from, to - from);
}

std::string tensorboard_record(double wall_time, int64_t step, const Scalars& values) {
  std::string summary;
  for (const auto& [tag, value] : values)
    summary += text(1, text(1, tag) + real32(2, float(value)));
  return record(real64(1, wall_time) + integer(2, step) + text(5, summary));
}

}  // namespace sg::report
