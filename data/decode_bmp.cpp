// BMP: by stb_image, and where it is run-length encoded, which stb_image does not know, here.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>

#include "data/decoders.h"
#include "data/stb_image_config.h"

namespace sg::data {
namespace {

class Bmp final : public Source {
 public:
  Bmp(Bytes bytes, std::string_view name, const DecodeLimits& limits) : name_(name) {
    Reader reader{bytes};
    int channels = 0;
    if (!stbi_info_from_callbacks(&kCallbacks, &reader, &width_, &height_, &channels))
      broken(name_, "BMP", stbi_failure_reason());
    // Below 0: the rows are from the top, which stb_image tells here alone.
    const int64_t height = std::abs(int64_t{height_});
    check_size(name_, "BMP", height, width_, limits);
    height_ = int(height);
    bytes_ = bytes;
    if (bytes.size() >= 34 && bytes[14] >= 40 && bytes[28] == 16) find_steps();
  }
  using Source::read;
  void read(const Box& box, Image& out) override {
    check_box(*this, box);
    Reader reader{bytes_};
    int width = 0, height = 0, channels = 0;
    const std::unique_ptr<uint8_t, void (*)(void*)> pixels(
        stbi_load_from_callbacks(&kCallbacks, &reader, &width, &height, &channels, 3),
        stbi_image_free);
    if (reader.ran_out)
      broken(name_, "BMP", fmt::format("truncated after {} bytes", bytes_.size()));
    if (!pixels) broken(name_, "BMP", stbi_failure_reason());
    if (width != width_ || height != height_) broken(name_, "BMP", "its size is contradictory");
    copy_box({pixels.get(), height, width, size_t(width) * 3}, box, out);
    if (steps_[0] > 0)
      for (size_t i = 0; i < out.pixels.size(); ++i) {
        const int steps = steps_[i % 3];
        out.pixels[i] = uint8_t((out.pixels[i] * (steps + 1) / 256) * 255 / steps);
      }
  }

 private:
  // Of 16 bits, 5 or 6 a colour: stb_image repeats the bits, Pillow scales them and rounds down.
  void find_steps() {
    constexpr uint8_t kBitFields = 3;
    const bool six =
        bytes_[30] == kBitFields && bytes_.size() >= 62 && bytes_[58] == 0xE0 && bytes_[59] == 0x07;
    steps_ = {31, six ? 63 : 31, 31};
  }

  // stb_image takes missing bytes for zeros. It asks again only when all that it got is used up,
  // so a question at the end means that the file is too short.
  struct Reader {
    Bytes bytes;
    size_t at = 0;
    bool ran_out = false;
  };
  static constexpr stbi_io_callbacks kCallbacks{
      [](void* user, char* to, int size) {
        auto& r = *static_cast<Reader*>(user);
        const size_t n = std::min(r.bytes.size() - r.at, size_t(size));
        r.ran_out |= n == 0;
        std::memcpy(to, r.bytes.data() + r.at, n);
        r.at += n;
        return int(n);
      },
      [](void* user, int n) {
        auto& r = *static_cast<Reader*>(user);
        if (n < 0)
          r.at -= std::min(r.at, size_t(-int64_t(n)));
        else
          r.at += std::min(r.bytes.size() - r.at, size_t(n));
      },
      [](void* user) {
        const auto& r = *static_cast<Reader*>(user);
        return int(r.at >= r.bytes.size());
      }};

  Bytes bytes_;
  std::string name_;
  std::array<int, 3> steps_{};  // of red, green, blue in 16 bits a pixel; else 0
};

// Run-length encoded, 8 bits a pixel (RLE8) or 4 (RLE4).
class RleBmp final : public Source {
 public:
  RleBmp(Bytes bytes, std::string_view name, const DecodeLimits& limits)
      : bytes_(bytes), name_(name) {
    if (bytes.size() < kHeaders) truncated();
    const uint32_t header_size = number(14);
    const auto height = int32_t(number(22));
    from_top_ = height < 0;
    check_size(name_, "BMP", std::abs(int64_t{height}), int32_t(number(18)), limits);
    width_ = int(number(18)), height_ = std::abs(height);
    four_bits_ = number(30) == kRle4;
    const int bits = bytes[28];
    if (header_size < 40 || header_size > 124 || bits != (four_bits_ ? 4 : 8))
      broken(name_, "BMP", fmt::format("run lengths of {} bits", bits));
    const size_t colours = number(46) == 0 ? size_t{1} << bits : number(46);
    if (colours > 256) broken(name_, "BMP", fmt::format("a palette of {} colours", colours));
    size_t at = 14 + header_size;
    if (bytes.size() < at + 4 * colours) truncated();
    read_palette(bytes.subspan(at, 4 * colours));
    at = number(10) == at ? at + 4 * colours : number(10);
    if (at > bytes.size()) truncated();
    pixels_ = at;
  }

  static bool claims(Bytes bytes) {
    return bytes.size() >= kHeaders && bytes[14] != 12 &&
           (little_endian(bytes, 30) == kRle8 || little_endian(bytes, 30) == kRle4);
  }

  using Source::read;
  void read(const Box& box, Image& out) override {
    check_box(*this, box);
    const std::vector<uint8_t> indices = decode();
    out.reset(box.height, box.width);
    uint8_t* to = out.pixels.data();
    for (int y = box.top; y < box.bottom(); ++y) {
      const auto row = size_t(from_top_ ? y : height_ - 1 - y) * size_t(width_);
      for (int x = box.left; x < box.right(); ++x, to += 3)
        std::copy_n(palette_[indices[row + size_t(x)]].begin(), 3, to);
    }
  }

 private:
  static constexpr uint32_t kRle8 = 1, kRle4 = 2;
  static constexpr size_t kHeaders = 54;

  static uint32_t little_endian(Bytes b, size_t at) {
    return uint32_t(b[at]) | uint32_t(b[at + 1]) << 8 | uint32_t(b[at + 2]) << 16 |
           uint32_t(b[at + 3]) << 24;
  }
  uint32_t number(size_t at) const { return little_endian(bytes_, at); }
  [[noreturn]] void truncated() const {
    broken(name_, "BMP", fmt::format("truncated after {} bytes", bytes_.size()));
  }

  // One that is the ramp of greys is taken for none: all 256 values are shown then.
  void read_palette(Bytes entries) {
    bool is_grey = true;
    for (size_t i = 0; i < entries.size() / 4; ++i)
      for (size_t c = 0; c < 3; ++c) {
        palette_[i][c] = entries[4 * i + 2 - c];
        is_grey &= palette_[i][c] == i;
      }
    if (is_grey)
      for (size_t i = 0; i < 256; ++i) palette_[i].fill(uint8_t(i));
  }

  // Palette indices, rows in the order of the file. As in Pillow the place is the number of pixels
  // so far: what a run has beyond the end of its row is dropped, and a row that is full needs no
  // end of line.
  std::vector<uint8_t> decode() const {
    const auto width = size_t(width_);
    const size_t all = width * size_t(height_);
    std::vector<uint8_t> indices;
    indices.reserve(all);
    size_t at = pixels_, x = 0;
    const auto byte = [&] {
      if (at >= bytes_.size()) truncated();
      return bytes_[at++];
    };
    const auto put = [&](uint8_t value, bool low) {
      indices.push_back(!four_bits_ ? value : low ? value & 15 : value >> 4);
    };
    while (indices.size() < all) {
      const size_t run = byte();
      const uint8_t value = byte();
      if (run > 0) {
        const size_t n = std::min({run, width - std::min(x, width), all - indices.size()});
        for (size_t i = 0; i < n; ++i) put(value, i % 2 == 1);
        x += n;
      } else if (value == 0) {  // end of line
        indices.resize((indices.size() + width - 1) / width * width);
        x = 0;
      } else if (value == 1) {  // end of image
        indices.resize(all);
      } else if (value == 2) {  // right and up
        const size_t right = byte(), up = byte();
        indices.resize(std::min(all, indices.size() + right + up * width));
        x = indices.size() % width;
      } else {  // as many pixels as they are
        const size_t n = std::min<size_t>(value, all - indices.size());
        uint8_t two = 0;
        for (size_t i = 0; i < n; ++i) {
          if (!four_bits_ || i % 2 == 0) two = byte();
          put(two, i % 2 == 1);
        }
        x += value;
        at += at % 2;
      }
    }
    return indices;
  }

  Bytes bytes_;
  std::string name_;
  bool from_top_ = false, four_bits_ = false;
  std::array<Rgb, 256> palette_{};
  size_t pixels_ = 0;  // where they begin
};

}  // namespace

std::unique_ptr<Source> open_bmp(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  if (RleBmp::claims(bytes)) return std::make_unique<RleBmp>(bytes, name, limits);
  return std::make_unique<Bmp>(bytes, name, limits);
}

}  // namespace sg::data
