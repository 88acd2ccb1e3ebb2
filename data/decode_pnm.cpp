// PBM, PGM and PPM (P1 to P6): 1 bit, grey and RGB, in text or binary.
#include <algorithm>
#include <cmath>
#include <string>

#include "data/decoders.h"

namespace sg::data {
namespace {

constexpr size_t kLongestToken = 10;

bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Where the line of a comment ends; it may end by either sign.
size_t end_of_line(Bytes b, size_t at) {
  while (at < b.size() && b[at] != '\n' && b[at] != '\r') ++at;
  return std::min(at + 1, b.size());
}

class Pnm final : public Source {
 public:
  Pnm(Bytes bytes, std::string_view name, const DecodeLimits& limits)
      : bytes_(bytes), name_(name), at_(2) {
    const int kind = bytes[1] - '0';
    text_ = kind <= 3, one_bit_ = kind == 1 || kind == 4, channels_ = kind % 3 == 0 ? 3 : 1;
    const int64_t width = number("width"), height = number("height");
    largest_ = one_bit_ ? 1 : number("largest value");
    check_size(name_, "PPM", height, width, limits);
    if (largest_ < 1 || largest_ > 65535) broken(name_, "PPM", "its largest value is not 1..65535");
    width_ = int(width), height_ = int(height);
    const size_t values = size_t(width) * size_t(height) * size_t(channels_);
    // In text, the least that so many values can take.
    const size_t need = text_      ? (one_bit_ ? values : 2 * values - 1)
                        : one_bit_ ? (size_t(width) + 7) / 8 * size_t(height)
                                   : values * (largest_ > 255 ? 2 : 1);
    if (bytes_.size() - at_ < need) truncated();
    if (!one_bit_ && largest_ != 255) fill_table();
  }

  using Source::read;
  void read(const Box& box, Image& out) override {
    check_box(*this, box);
    if (text_) return read_text(box, out);
    out.reset(box.height, box.width);
    uint8_t* to = out.pixels.data();
    for (int y = box.top; y < box.bottom(); ++y)
      for (int x = box.left; x < box.right(); ++x)
        for (int c = 0; c < 3; ++c) *to++ = value(y, x, channels_ == 3 ? c : 0);
  }

 private:
  [[noreturn]] void truncated() const {
    broken(name_, "PPM", fmt::format("truncated after {} bytes", bytes_.size()));
  }

  // A number of the header and the white space after it.
  int64_t number(std::string_view what) {
    std::string token;
    while (at_ < bytes_.size() && token.size() <= kLongestToken) {
      const uint8_t c = bytes_[at_++];
      if (c == '#') {
        at_ = end_of_line(bytes_, at_);
      } else if (!is_space(c)) {
        token += char(c);
      } else if (!token.empty()) {
        break;
      }
    }
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (token.empty() || token.size() > kLongestToken || !std::ranges::all_of(token, is_digit))
      broken(name_, "PPM", fmt::format("its header has no {}", what));
    return std::stoll(token);
  }

  // What Pillow makes of each value: grey of more than 8 bits is clipped, not scaled.
  void fill_table() {
    table_.resize(size_t(largest_ > 255 ? 65536 : 256));
    const double full = largest_ > 255 && channels_ == 1 ? 65535 : 255;
    for (size_t v = 0; v < table_.size(); ++v)
      table_[v] = uint8_t(std::min(255.0, std::nearbyint(double(v) / double(largest_) * full)));
  }

  uint8_t value(int y, int x, int c) const {
    const uint8_t* p = bytes_.data() + at_;
    if (one_bit_) {
      const uint8_t eight = p[size_t(y) * ((size_t(width_) + 7) / 8) + size_t(x) / 8];
      return eight >> (7 - x % 8) & 1 ? 0 : 255;
    }
    const size_t i = (size_t(y) * size_t(width_) + size_t(x)) * size_t(channels_) + size_t(c);
    if (largest_ > 255) return table_[size_t(p[2 * i] << 8 | p[2 * i + 1])];
    return table_.empty() ? p[i] : table_[p[i]];
  }

  void read_text(const Box& box, Image& out) {
    Image whole;
    whole.reset(height_, width_);
    size_t at = at_;
    for (size_t i = 0; i < whole.pixels.size(); i += channels_ == 3 ? 1 : 3) {
      const uint8_t v = one_bit_ ? next_bit(at) : next_value(at);
      std::fill_n(&whole.pixels[i], channels_ == 3 ? 1 : 3, v);
    }
    copy_box(whole.view(), box, out);
  }

  // The next character that is neither white space nor comment; one_bit: they need none between.
  uint8_t next_bit(size_t& at) const {
    for (; at < bytes_.size(); ++at) {
      const uint8_t c = bytes_[at];
      if (c == '#') {
        at = end_of_line(bytes_, at) - 1;
      } else if (c == '0' || c == '1') {
        ++at;
        return c == '1' ? 0 : 255;
      } else if (!is_space(c)) {
        broken(name_, "PPM", "a value that is neither 0 nor 1");
      }
    }
    truncated();
  }

  uint8_t next_value(size_t& at) const {
    int64_t v = -1;
    for (; at < bytes_.size(); ++at) {
      const uint8_t c = bytes_[at];
      if (c == '#') {
        at = end_of_line(bytes_, at) - 1;  // a comment joins what stands on both sides
      } else if (c >= '0' && c <= '9') {
        v = std::max<int64_t>(v, 0) * 10 + (c - '0');
        if (v > largest_) broken(name_, "PPM", fmt::format("a value above {}", largest_));
      } else if (!is_space(c)) {
        broken(name_, "PPM", "a value that is no number");
      } else if (v >= 0) {
        break;
      }
    }
    if (v < 0) truncated();
    return table_.empty() ? uint8_t(v) : table_[size_t(v)];
  }

  Bytes bytes_;
  std::string name_;
  size_t at_;  // of the pixels
  bool text_ = false, one_bit_ = false;
  int channels_ = 1;
  int64_t largest_ = 0;
  std::vector<uint8_t> table_;  // value to byte, where they differ
};

}  // namespace

std::unique_ptr<Source> open_pnm(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  return std::make_unique<Pnm>(bytes, name, limits);
}

}  // namespace sg::data
