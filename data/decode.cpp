#include "data/decode.h"

#include <algorithm>
#include <cstring>

#include "data/decoders.h"
#include "io/file.h"

namespace sg::data {
namespace {

using namespace std::string_view_literals;

bool starts_with(Bytes bytes, std::string_view magic, size_t at = 0) {
  return bytes.size() >= at + magic.size() &&
         std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

// What a file that cannot be decoded seems to be.
std::string_view guess(Bytes b) {
  if (b.empty()) return "an empty file";
  if (starts_with(b, "ftyp", 4)) return "HEIC or a video";
  if (starts_with(b, "\0\0\0\x0CjP"sv)) return "JPEG 2000";
  if (starts_with(b, "<")) return "HTML, XML or SVG (a failed download?)";
  if (starts_with(b, "PK\3\4") || starts_with(b, "\x1f\x8b")) return "an archive";
  return "none that is known";
}

bool is_tiff(Bytes b) {
  return starts_with(b, "II*\0"sv) || starts_with(b, "MM\0*"sv) || starts_with(b, "II+\0"sv) ||
         starts_with(b, "MM\0+"sv);
}

// One of the brands in the first box of the file.
bool is_avif(Bytes b) {
  if (b.size() < 16 || !starts_with(b, "ftyp", 4)) return false;
  const size_t size = std::min<size_t>(b.size(), size_t(b[2]) << 8 | b[3]);
  for (size_t at = 8; at + 4 <= size; at += 4)
    if (starts_with(b, "avif", at) || starts_with(b, "avis", at)) return true;
  return false;
}

class PixelSource final : public Source {
 public:
  PixelSource(const uint8_t* pixels, int height, int width, int channels)
      : pixels_(pixels), channels_(channels) {
    check(height > 0 && width > 0 && (channels == 1 || channels == 3),
          "pixels: {} x {} with {} channels", height, width, channels);
    height_ = height, width_ = width;
  }
  using Source::read;
  void read(const Box& box, Image& out) override {
    check_box(*this, box);
    if (channels_ == 3) return copy_box({pixels_, height_, width_, size_t(width_) * 3}, box, out);
    out.reset(box.height, box.width);
    uint8_t* to = out.pixels.data();
    for (int y = box.top; y < box.bottom(); ++y)
      for (int x = box.left; x < box.right(); ++x, to += 3)
        to[0] = to[1] = to[2] = pixels_[size_t(y) * size_t(width_) + size_t(x)];
  }

 private:
  const uint8_t* pixels_;
  int channels_;
};

}  // namespace

void broken(std::string_view name, std::string_view format, std::string_view what) {
  fail(ExitCode::data, "{}: broken {}: {}; replace or remove the file", name, format, what);
}

void check_size(std::string_view name, std::string_view format, int64_t height, int64_t width,
                const DecodeLimits& limits) {
  if (height < 1 || width < 1)
    broken(name, format, fmt::format("its header says {} x {} pixels", width, height));
  if (height > limits.max_side || width > limits.max_side || height > limits.max_pixels / width)
    fail(ExitCode::data,
         "{}: {} of {} x {} pixels; at most {} pixels are decoded; make the image smaller", name,
         format, width, height, limits.max_pixels);
}

void check_box(const Source& source, const Box& b) {
  check(b.left >= 0 && b.top >= 0 && b.width > 0 && b.height > 0 && b.right() <= source.width() &&
            b.bottom() <= source.height(),
        "a box of {} x {} at ({}, {}) does not lie in an image of {} x {}", b.width, b.height,
        b.left, b.top, source.width(), source.height());
}

void copy_box(const ImageView& from, const Box& box, Image& out) {
  out.reset(box.height, box.width);
  const ImageView part = from.crop(box);
  for (int y = 0; y < box.height; ++y) std::memcpy(out.row(y), part.row(y), size_t(box.width) * 3);
}

std::unique_ptr<Source> open_image(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  if (int64_t(bytes.size()) > limits.max_bytes)
    fail(ExitCode::data, "{}: {} bytes; an image may have at most {}", name, bytes.size(),
         limits.max_bytes);
  if (starts_with(bytes, "\xff\xd8\xff")) return open_jpeg(bytes, name, limits);
  if (starts_with(bytes, "\x89PNG\r\n\x1a\n")) return open_png(bytes, name, limits);
  if (starts_with(bytes, "RIFF") && starts_with(bytes, "WEBP", 8))
    return open_webp(bytes, name, limits);
  if (is_tiff(bytes)) return open_tiff(bytes, name, limits);
  if (is_avif(bytes)) return open_avif(bytes, name, limits);
  if (starts_with(bytes, "GIF8")) return open_gif(bytes, name, limits);
  if (starts_with(bytes, "BM")) return open_bmp(bytes, name, limits);
  if (bytes.size() >= 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6')
    return open_pnm(bytes, name, limits);
  fail(ExitCode::data, "{}: expected an image ({}), found {}; convert or remove it", name,
       kImageFormats, guess(bytes));
}

Image decode(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  Image image;
  open_image(bytes, name, limits)->read(image);
  return image;
}

Image decode_region(Bytes bytes, std::string_view name, const Box& box,
                    const DecodeLimits& limits) {
  Image image;
  open_image(bytes, name, limits)->read(box, image);
  return image;
}

ImageSize probe(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  const auto source = open_image(bytes, name, limits);
  return {source->height(), source->width()};
}

void read_bytes(const std::string& path, std::vector<uint8_t>& bytes, const DecodeLimits& limits) {
  const InputFile file(path, ExitCode::data);
  if (file.size() > uint64_t(limits.max_bytes))
    fail(ExitCode::data, "{}: {} bytes; an image may have at most {}", path, file.size(),
         limits.max_bytes);
  bytes.resize(file.size());
  file.read(0, bytes.data(), bytes.size());
}

std::unique_ptr<Source> open_pixels(const uint8_t* pixels, int height, int width, int channels) {
  return std::make_unique<PixelSource>(pixels, height, width, channels);
}

}  // namespace sg::data
