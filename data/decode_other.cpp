// BMP, the first frame of a GIF (both by stb_image), and binary PPM and PGM.
#include <algorithm>
#include <cstring>
#include <string>

#include "data/decoders.h"
#include "data/stb_image_config.h"

namespace sg::data {
namespace {

class BmpOrGif final : public Source {
 public:
  BmpOrGif(Bytes bytes, std::string_view name, const DecodeLimits& limits)
      : format_(bytes[0] == 'B' ? "BMP" : "GIF"), name_(name) {
    Reader reader{bytes};
    int channels = 0;
    if (!stbi_info_from_callbacks(&kCallbacks, &reader, &width_, &height_, &channels))
      broken(name_, format_, stbi_failure_reason());
    check_size(name_, format_, height_, width_, limits);
    bytes_ = bytes;
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
      broken(name_, format_, fmt::format("truncated after {} bytes", bytes_.size()));
    if (!pixels) broken(name_, format_, stbi_failure_reason());
    if (width != width_ || height != height_) broken(name_, format_, "its size is contradictory");
    copy_box({pixels.get(), height, width, size_t(width) * 3}, box, out);
  }

 private:
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
  std::string_view format_;
  std::string name_;
};

// "P5" or "P6", then width, height and the largest value, between white space and comments.
class Pnm final : public Source {
 public:
  Pnm(Bytes bytes, std::string_view name, const DecodeLimits& limits) : name_(name) {
    size_t at = 2;
    const auto number = [&] {
      while (at < bytes.size() && (std::isspace(bytes[at]) || bytes[at] == '#')) {
        if (bytes[at] == '#')
          while (at < bytes.size() && bytes[at] != '\n') ++at;
        else
          ++at;
      }
      const size_t start = at;
      int64_t value = 0;
      for (; at < bytes.size() && std::isdigit(bytes[at]) && value < INT32_MAX; ++at)
        value = value * 10 + (bytes[at] - '0');
      if (at == start) broken(name_, "PPM", "its header is not three numbers");
      return value;
    };
    const int64_t width = number(), height = number();
    largest_ = number();
    check_size(name_, "PPM", height, width, limits);
    if (largest_ < 1 || largest_ > 65535) broken(name_, "PPM", "its largest value is not 1..65535");
    width_ = int(width), height_ = int(height);
    channels_ = bytes[1] == '6' ? 3 : 1;
    const size_t need = size_t(width) * size_t(height) * size_t(channels_ * value_bytes());
    ++at;  // one white space
    if (at > bytes.size() || bytes.size() - at < need)
      broken(name_, "PPM", fmt::format("truncated after {} bytes", bytes.size()));
    pixels_ = bytes.data() + at;
  }
  using Source::read;
  void read(const Box& box, Image& out) override {
    check_box(*this, box);
    out.reset(box.height, box.width);
    uint8_t* to = out.pixels.data();
    for (int y = box.top; y < box.bottom(); ++y)
      for (int x = box.left; x < box.right(); ++x)
        for (int c = 0; c < 3; ++c)
          *to++ = value((size_t(y) * size_t(width_) + size_t(x)) * size_t(channels_) +
                        size_t(channels_ == 3 ? c : 0));
  }

 private:
  int value_bytes() const { return largest_ > 255 ? 2 : 1; }
  uint8_t value(size_t i) const {
    const int64_t v = largest_ > 255 ? pixels_[2 * i] << 8 | pixels_[2 * i + 1] : pixels_[i];
    return largest_ == 255 ? uint8_t(v)
                           : uint8_t(std::min<int64_t>((v * 255 + largest_ / 2) / largest_, 255));
  }

  const uint8_t* pixels_ = nullptr;
  int64_t largest_ = 0;
  int channels_ = 0;
  std::string name_;
};

}  // namespace

std::unique_ptr<Source> open_bmp_or_gif(Bytes bytes, std::string_view name,
                                        const DecodeLimits& limits) {
  return std::make_unique<BmpOrGif>(bytes, name, limits);
}

std::unique_ptr<Source> open_pnm(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  return std::make_unique<Pnm>(bytes, name, limits);
}

}  // namespace sg::data
