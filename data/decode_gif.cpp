// The first frame of a GIF as Pillow shows it: a transparent pixel has the colour that the palette
// has for it. stb_image composes frames and so loses that colour.
#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "data/decoders.h"

namespace sg::data {
namespace {

using Palette = std::array<Rgb, 256>;

class Gif final : public Source {
 public:
  Gif(Bytes bytes, std::string_view name, const DecodeLimits& limits) : bytes_(bytes), name_(name) {
    at_ = 6;
    width_ = word(), height_ = word();
    const uint8_t flags = byte();
    skip(2);  // background and aspect: neither is shown
    for (size_t i = 0; i < 256; ++i) palette_[i].fill(uint8_t(i));
    const Palette grey = palette_;
    if (flags & 0x80) read_palette(flags, grey);
    while (true) {
      const uint8_t kind = byte();
      if (kind == ',') break;
      if (kind == ';') broken(name_, "GIF", "it has no image");
      if (kind == '!') read_extension();
    }
    left_ = word(), top_ = word(), frame_width_ = word(), frame_height_ = word();
    // A frame that reaches out of the screen makes it larger.
    width_ = std::max(width_, left_ + frame_width_);
    height_ = std::max(height_, top_ + frame_height_);
    check_size(name_, "GIF", height_, width_, limits);
    if (frame_width_ < 1 || frame_height_ < 1) broken(name_, "GIF", "its frame is empty");
    const uint8_t frame_flags = byte();
    interlaced_ = frame_flags & 0x40;
    if (frame_flags & 0x80) read_palette(frame_flags, grey);
    code_bits_ = byte();
    if (code_bits_ < 1 || code_bits_ > 8)
      broken(name_, "GIF", fmt::format("codes of {} bits", code_bits_));
  }

  using Source::read;
  void read(const Box& box, Image& out) override {
    check_box(*this, box);
    const std::vector<uint8_t> frame = decode_frame();
    Image whole;
    whole.reset(height_, width_);
    for (int y = 0; y < height_; ++y) {
      uint8_t* to = whole.row(y);
      const bool inside = y >= top_ && y < top_ + frame_height_;
      for (int x = 0; x < width_; ++x, to += 3) {
        uint8_t index = transparent_.value_or(0);
        if (inside && x >= left_ && x < left_ + frame_width_)
          index = frame[size_t(y - top_) * size_t(frame_width_) + size_t(x - left_)];
        std::copy_n(palette_[index].begin(), 3, to);
      }
    }
    copy_box(whole.view(), box, out);
  }

 private:
  uint8_t byte() {
    if (at_ >= bytes_.size())
      broken(name_, "GIF", fmt::format("truncated after {} bytes", bytes_.size()));
    return bytes_[at_++];
  }
  int word() {
    const int low = byte();
    return low | byte() << 8;
  }
  void skip(size_t n) {
    for (size_t i = 0; i < n; ++i) byte();
  }

  // One that is the ramp of greys is taken for none: all 256 values are shown then.
  void read_palette(uint8_t flags, const Palette& grey) {
    Palette palette{};
    const size_t entries = size_t{2} << (flags & 7);
    for (size_t i = 0; i < entries; ++i)
      for (uint8_t& channel : palette[i]) channel = byte();
    const bool is_grey = std::equal(palette.begin(), palette.begin() + long(entries), grey.begin());
    palette_ = is_grey ? grey : palette;
  }

  void read_extension() {
    const uint8_t label = byte();
    bool first = true;
    while (const uint8_t size = byte()) {
      const size_t start = at_;
      skip(size);
      if (label == 0xF9 && first && size >= 4 && (bytes_[start] & 1))
        transparent_ = bytes_[start + 3];
      first = false;
    }
  }

  // The next code of `bits` bits from the blocks of data.
  int code(int bits) {
    while (held_bits_ < bits) {
      if (block_left_ == 0) block_left_ = byte();
      if (block_left_ == 0) broken(name_, "GIF", "its image ends early");
      held_ |= uint32_t(byte()) << held_bits_;
      held_bits_ += 8, --block_left_;
    }
    const int value = int(held_ & ((1u << bits) - 1));
    held_ >>= bits, held_bits_ -= bits;
    return value;
  }

  // LZW: palette indices of the frame in the order of the file.
  std::vector<uint8_t> decode_codes() {
    constexpr int kTable = 4096, kMaxBits = 12;
    std::vector<uint16_t> prefix(kTable);
    std::vector<uint8_t> last(kTable), reversed;
    const int clear = 1 << code_bits_, end = clear + 1;
    int bits = code_bits_ + 1, next = end + 1, previous = -1;
    std::vector<uint8_t> pixels;
    const size_t all = size_t(frame_width_) * size_t(frame_height_);
    pixels.reserve(all);
    while (pixels.size() < all) {
      const int c = code(bits);
      if (c == end) broken(name_, "GIF", "its image ends early");
      if (c == clear) {
        bits = code_bits_ + 1, next = end + 1, previous = -1;
        continue;
      }
      if (c > next || (previous < 0 && c > clear)) broken(name_, "GIF", "a code of no meaning");
      // From its end to its begin; a code that is just being defined begins as the one before.
      reversed.clear();
      int at = c;
      if (c == next) reversed.push_back(first_of(previous, clear, prefix)), at = previous;
      for (; at > end; at = prefix[size_t(at)]) reversed.push_back(last[size_t(at)]);
      reversed.push_back(uint8_t(at));
      if (previous >= 0 && next < kTable) {
        prefix[size_t(next)] = uint16_t(previous), last[size_t(next)] = reversed.back();
        if (++next == 1 << bits && bits < kMaxBits) ++bits;
      }
      previous = c;
      const size_t n = std::min(reversed.size(), all - pixels.size());
      pixels.insert(pixels.end(), reversed.rbegin(), reversed.rbegin() + long(n));
    }
    return pixels;
  }

  static uint8_t first_of(int c, int clear, const std::vector<uint16_t>& prefix) {
    while (c > clear) c = prefix[size_t(c)];
    return uint8_t(c);
  }

  // Rows from the top.
  std::vector<uint8_t> decode_frame() {
    std::vector<uint8_t> coded = decode_codes();
    if (!interlaced_) return coded;
    std::vector<uint8_t> pixels(coded.size());
    const auto width = size_t(frame_width_);
    size_t from = 0;
    for (const auto& [start, step] : {std::pair{0, 8}, {4, 8}, {2, 4}, {1, 2}})
      for (int y = start; y < frame_height_; y += step, from += width)
        std::copy_n(&coded[from], width, &pixels[size_t(y) * width]);
    return pixels;
  }

  Bytes bytes_;
  std::string name_;
  size_t at_ = 0;
  Palette palette_{};
  std::optional<uint8_t> transparent_;  // index
  int left_ = 0, top_ = 0, frame_width_ = 0, frame_height_ = 0;
  bool interlaced_ = false;
  int code_bits_ = 0;
  // What code() has taken from the data and not yet given out.
  uint32_t held_ = 0;
  int held_bits_ = 0, block_left_ = 0;
};

}  // namespace

std::unique_ptr<Source> open_gif(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  return std::make_unique<Gif>(bytes, name, limits);
}

}  // namespace sg::data
