// TIFF: strips and tiles by libtiff, pixels as Pillow makes them of the samples. libtiff's own RGBA
// interface rounds otherwise (16 bits, palettes, CMYK) and multiplies by alpha; it serves for YCbCr
// that is not JPEG alone.
//
// A colour of 16 bits keeps its high byte; grey of more than 8 bits is clipped, not scaled. Alpha
// is dropped; colours that were multiplied by it are divided again. Orientation is applied: for
// TIFF, unlike EXIF in others, Pillow does.
#include <tiffio.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <string>

#include "data/decoders.h"

namespace sg::data {
namespace {

constexpr int kMaxSamples = 6;  // a pixel
// A tile may be larger than a small image, but no larger than its sides rounded up to this: else a
// file of some hundred bytes would ask for gigabytes.
constexpr uint32_t kTileSide = 2048;

template <class T>
T load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

uint8_t clipped(double v) { return v >= 255 ? 255 : v > 0 ? uint8_t(v) : 0; }

class Tiff final : public Source {
 public:
  Tiff(Bytes bytes, std::string_view name, const DecodeLimits& limits)
      : bytes_(bytes), name_(name), limits_(limits) {
    const std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> options(
        TIFFOpenOptionsAlloc(), TIFFOpenOptionsFree);
    TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), tmsize_t(max_block_bytes()));
    TIFFOpenOptionsSetErrorHandlerExtR(options.get(), on_error, this);
    TIFFOpenOptionsSetWarningHandlerExtR(
        options.get(), [](TIFF*, void*, const char*, const char*, va_list) { return 1; }, this);
    tiff_.reset(TIFFClientOpenExt("", "rm", this, on_read, on_write, on_seek, on_close, on_size,
                                  nullptr, nullptr, options.get()));
    if (!tiff_) bad();
    uint32_t width = 0, height = 0;
    if (!TIFFGetField(file(), TIFFTAG_IMAGEWIDTH, &width) ||
        !TIFFGetField(file(), TIFFTAG_IMAGELENGTH, &height))
      broken(name_, "TIFF", "it does not say its size");
    check_size(name_, "TIFF", height, width, limits);
    stored_width_ = int(width), stored_height_ = int(height);
    orientation_ = field(TIFFTAG_ORIENTATION);
    const bool turned = orientation_ >= 5 && orientation_ <= 8;
    width_ = turned ? stored_height_ : stored_width_;
    height_ = turned ? stored_width_ : stored_height_;
    read_layout();
    check_complete();
    read_blocks_layout();
  }

  using Source::read;
  void read(const Box& box, Image& out) override {
    check_box(*this, box);
    Image stored;
    stored.reset(stored_height_, stored_width_);
    if (kind_ == Kind::ycbcr)
      read_ycbcr(stored);
    else
      read_blocks(stored);
    if (orientation_ < 2 || orientation_ > 8) return copy_box(stored.view(), box, out);
    out.reset(box.height, box.width);
    uint8_t* to = out.pixels.data();
    for (int y = box.top; y < box.bottom(); ++y)
      for (int x = box.left; x < box.right(); ++x, to += 3) {
        const auto [from_y, from_x] = stored_at(y, x);
        std::copy_n(stored.row(from_y) + size_t(from_x) * 3, 3, to);
      }
  }

 private:
  enum class Kind { grey, palette, rgb, cmyk, ycbcr };

  TIFF* file() const { return tiff_.get(); }
  [[noreturn]] void bad() const {
    broken(name_, "TIFF", message_[0] ? message_ : "its structure is damaged");
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    fail(ExitCode::data, "{}: TIFF of {} is not read; convert or remove it", name_, what);
  }
  // What one strip or tile, and so one block of libtiff's memory, may take: 8 bytes a pixel.
  int64_t max_block_bytes() const {
    return std::min<int64_t>(limits_.max_pixels, INT64_MAX / 16) * 8 + (int64_t{1} << 20);
  }

  static int on_error(TIFF*, void* user, const char*, const char* format, va_list arguments) {
    auto& self = *static_cast<Tiff*>(user);
    std::vsnprintf(self.message_, sizeof self.message_, format, arguments);
    return 1;
  }
  static tmsize_t on_read(thandle_t user, void* to, tmsize_t bytes) {
    auto& self = *static_cast<Tiff*>(user);
    const auto n = std::min(size_t(std::max<tmsize_t>(bytes, 0)),
                            self.bytes_.size() - std::min(self.at_, self.bytes_.size()));
    if (n > 0) std::memcpy(to, self.bytes_.data() + self.at_, n);
    self.at_ += n;
    return tmsize_t(n);
  }
  static tmsize_t on_write(thandle_t, void*, tmsize_t) { return 0; }
  static toff_t on_seek(thandle_t user, toff_t offset, int whence) {
    auto& self = *static_cast<Tiff*>(user);
    const size_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? self.at_ : self.bytes_.size();
    return self.at_ = from + size_t(offset);
  }
  static int on_close(thandle_t) { return 0; }
  static toff_t on_size(thandle_t user) { return static_cast<Tiff*>(user)->bytes_.size(); }

  int field(uint32_t tag) const {
    uint16_t value = 0;
    TIFFGetFieldDefaulted(file(), tag, &value);
    return value;
  }

  void read_layout() {
    // A photometric is required, but not all files have one.
    uint16_t photometric = PHOTOMETRIC_MINISWHITE;
    TIFFGetField(file(), TIFFTAG_PHOTOMETRIC, &photometric);
    const int compression = field(TIFFTAG_COMPRESSION);
    bits_ = field(TIFFTAG_BITSPERSAMPLE), samples_ = field(TIFFTAG_SAMPLESPERPIXEL);
    format_ = field(TIFFTAG_SAMPLEFORMAT);
    separate_ = field(TIFFTAG_PLANARCONFIG) == PLANARCONFIG_SEPARATE;
    white_is_zero_ = photometric == PHOTOMETRIC_MINISWHITE;
    if (compression == COMPRESSION_OJPEG) photometric = PHOTOMETRIC_YCBCR;
    switch (photometric) {
      case PHOTOMETRIC_MINISWHITE:
      case PHOTOMETRIC_MINISBLACK:
        kind_ = Kind::grey, used_ = 1;
        break;
      case PHOTOMETRIC_PALETTE:
        kind_ = Kind::palette, used_ = 1;
        read_palette();
        break;
      case PHOTOMETRIC_RGB:
        kind_ = Kind::rgb, used_ = 3;
        break;
      case PHOTOMETRIC_SEPARATED:
        kind_ = Kind::cmyk, used_ = 4;
        break;
      case PHOTOMETRIC_YCBCR:
        kind_ = samples_ == 1 ? Kind::grey : Kind::ycbcr, used_ = samples_ == 1 ? 1 : 3;
        if (samples_ >= 3 && compression == COMPRESSION_JPEG && !separate_) {
          TIFFSetField(file(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
          kind_ = Kind::rgb;
        }
        break;
      default:
        unsupported(fmt::format("photometric interpretation {}", photometric));
    }
    if (samples_ < used_ || samples_ > kMaxSamples)
      unsupported(fmt::format("{} samples a pixel", samples_));
    check_bits();
    uint16_t extra = 0;
    uint16_t* types = nullptr;
    TIFFGetFieldDefaulted(file(), TIFFTAG_EXTRASAMPLES, &extra, &types);
    divide_by_alpha_ = kind_ == Kind::rgb && samples_ > 3 && extra > 0 && types &&
                       types[0] == EXTRASAMPLE_ASSOCALPHA;
    if (divide_by_alpha_) used_ = 4;
    tiled_ = TIFFIsTiled(file());
  }

  void check_bits() const {
    const auto is = [&](std::initializer_list<int> known) {
      return std::ranges::find(known, bits_) != known.end();
    };
    const bool is_float = format_ == SAMPLEFORMAT_IEEEFP, is_int = format_ == SAMPLEFORMAT_INT;
    bool known = false;
    if (is_float)
      known = kind_ == Kind::grey && is({32});
    else if (format_ == SAMPLEFORMAT_UINT || is_int || format_ == SAMPLEFORMAT_VOID)
      known = kind_ == Kind::grey      ? is_int ? is({8, 16, 32}) : is({1, 2, 4, 8, 12, 16, 32})
                   : kind_ == Kind::palette ? is({1, 2, 4, 8})
              : kind_ == Kind::ycbcr   ? is({8})
                                       : is({8, 16});
    if (!known) unsupported(fmt::format("samples of {} bits, format {}", bits_, format_));
  }

  void read_palette() {
    uint16_t *red = nullptr, *green = nullptr, *blue = nullptr;
    if (bits_ > 8 || !TIFFGetField(file(), TIFFTAG_COLORMAP, &red, &green, &blue))
      broken(name_, "TIFF", "it has no palette");
    for (size_t i = 0; i < size_t{1} << bits_; ++i)
      palette_[i] = {uint8_t(red[i] >> 8), uint8_t(green[i] >> 8), uint8_t(blue[i] >> 8)};
  }

  // All of the blocks lie in the file, also those that are not read.
  void check_complete() const {
    const uint32_t blocks = tiled_ ? TIFFNumberOfTiles(file()) : TIFFNumberOfStrips(file());
    for (uint32_t i = 0; i < blocks; ++i) {
      const uint64_t begin = TIFFGetStrileOffset(file(), i), n = TIFFGetStrileByteCount(file(), i);
      if (n == 0 || begin > bytes_.size() || n > bytes_.size() - begin)
        broken(name_, "TIFF", fmt::format("truncated after {} bytes", bytes_.size()));
    }
  }

  // Strips are tiles as wide as the image.
  void read_blocks_layout() {
    const auto width = uint32_t(stored_width_), height = uint32_t(stored_height_);
    const auto most = [](uint32_t side) { return (side + kTileSide - 1) / kTileSide * kTileSide; };
    block_width_ = width, block_height_ = height;
    if (tiled_) {
      TIFFGetField(file(), TIFFTAG_TILEWIDTH, &block_width_);
      TIFFGetField(file(), TIFFTAG_TILELENGTH, &block_height_);
    } else {
      uint32_t rows = 0;
      TIFFGetFieldDefaulted(file(), TIFFTAG_ROWSPERSTRIP, &rows);
      block_height_ = std::min(rows, height);
    }
    if (block_width_ == 0 || block_height_ == 0 || block_width_ > most(width) ||
        block_height_ > most(height))
      broken(name_, "TIFF",
             fmt::format("strips or tiles of {} x {} for an image of {} x {}", block_width_,
                         block_height_, width, height));
  }

  void read_blocks(Image& out) {
    const uint64_t bytes = tiled_ ? TIFFTileSize64(file()) : TIFFStripSize64(file());
    const uint64_t row_bytes = tiled_ ? TIFFTileRowSize64(file()) : TIFFScanlineSize64(file());
    const uint64_t row_samples = uint64_t{block_width_} * uint64_t(separate_ ? 1 : samples_);
    if (bytes == 0 || bytes > uint64_t(max_block_bytes()) ||
        row_bytes < (row_samples * uint64_t(bits_) + 7) / 8 || row_bytes * block_height_ > bytes)
      broken(name_, "TIFF", fmt::format("strips or tiles of {} x {}", block_width_, block_height_));
    const auto used = size_t(used_);
    std::vector<uint8_t> block(size_t(bytes), 0), samples;  // used_ of a pixel that is shown
    for (uint32_t y = 0; y < uint32_t(out.height); y += block_height_)
      for (uint32_t x = 0; x < uint32_t(out.width); x += block_width_) {
        const uint32_t rows = std::min(block_height_, uint32_t(out.height) - y),
                       columns = std::min(block_width_, uint32_t(out.width) - x);
        samples.resize(size_t(rows) * columns * used);
        for (size_t p = 0; p < (separate_ ? used : 1); ++p) {
          read_block(x, y, uint16_t(p), block, (tiled_ ? block_height_ : rows) * row_bytes);
          for (uint32_t r = 0; r < rows; ++r)
            take_samples(block.data() + size_t(r * row_bytes), columns, p,
                         samples.data() + size_t(r) * columns * used);
        }
        for (uint32_t r = 0; r < rows; ++r) {
          const uint8_t* from = samples.data() + size_t(r) * columns * used;
          uint8_t* to = out.row(int(y + r)) + size_t(x) * 3;
          for (uint32_t c = 0; c < columns; ++c, from += used, to += 3) to_rgb(from, to);
        }
      }
  }

  void read_block(uint32_t x, uint32_t y, uint16_t plane, std::vector<uint8_t>& to, uint64_t need) {
    const tmsize_t got = tiled_
                             ? TIFFReadEncodedTile(file(), TIFFComputeTile(file(), x, y, 0, plane),
                                                   to.data(), tmsize_t(to.size()))
                             : TIFFReadEncodedStrip(file(), TIFFComputeStrip(file(), y, plane),
                                                    to.data(), tmsize_t(need));
    if (got < 0) bad();
    if (uint64_t(got) < need) broken(name_, "TIFF", "a strip or tile ends early");
  }

  // Of a row of plane p, or of all samples where they are not apart: used_ bytes a pixel.
  void take_samples(const uint8_t* row, uint32_t columns, size_t p, uint8_t* to) const {
    const auto used = size_t(used_);
    for (size_t x = 0; x < columns; ++x, to += used)
      if (separate_)
        to[p] = sample(row, x);
      else
        for (size_t c = 0; c < used; ++c) to[c] = sample(row, x * size_t(samples_) + c);
  }

  // Sample i of a row, as a byte; of a palette the index.
  uint8_t sample(const uint8_t* row, size_t i) const {
    const bool is_grey = kind_ == Kind::grey, is_int = format_ == SAMPLEFORMAT_INT;
    switch (bits_) {
      case 16:
        if (is_grey && is_int) return clipped(load<int16_t>(row + 2 * i));
        return is_grey ? clipped(load<uint16_t>(row + 2 * i))
                       : uint8_t(load<uint16_t>(row + 2 * i) >> 8);
      case 32:
        if (format_ == SAMPLEFORMAT_IEEEFP) return clipped(double(load<float>(row + 4 * i)));
        return is_int ? clipped(load<int32_t>(row + 4 * i)) : clipped(load<uint32_t>(row + 4 * i));
      case 12: {
        const uint8_t* p = row + i / 2 * 3;
        return clipped(i % 2 == 0 ? p[0] << 4 | p[1] >> 4 : (p[1] & 15) << 8 | p[2]);
      }
      default: {  // 1, 2, 4, 8
        const int most = (1 << bits_) - 1;
        const size_t bit = i * size_t(bits_);
        const int v = row[bit / 8] >> (8 - bits_ - int(bit % 8)) & most;
        if (!is_grey) return uint8_t(v);
        const int grey = v * (255 / most);
        return uint8_t(white_is_zero_ ? 255 - grey : grey);
      }
    }
  }

  // Of used_ samples.
  void to_rgb(const uint8_t* s, uint8_t* to) const {
    switch (kind_) {
      case Kind::grey:
        std::fill_n(to, 3, s[0]);
        return;
      case Kind::palette:
        std::copy_n(palette_[s[0]].begin(), 3, to);
        return;
      case Kind::cmyk:
        for (size_t c = 0; c < 3; ++c) {
          const int t = s[c] * (255 - s[3]) + 128, ink = (t + (t >> 8)) >> 8;
          to[c] = uint8_t(std::max(0, 255 - s[3] - ink));
        }
        return;
      default:
        for (size_t c = 0; c < 3; ++c) to[c] = s[c];
        if (!divide_by_alpha_ || s[3] == 255) return;
        for (size_t c = 0; c < 3; ++c)
          to[c] = s[3] == 0 ? 0 : uint8_t(std::min(255, s[c] * 255 / s[3]));
    }
  }

  void read_ycbcr(Image& out) {
    char reason[1024] = "";
    TIFFRGBAImage image;
    if (!TIFFRGBAImageBegin(&image, file(), 1, reason)) broken(name_, "TIFF", reason);
    const std::unique_ptr<TIFFRGBAImage, void (*)(TIFFRGBAImage*)> ender(&image, TIFFRGBAImageEnd);
    image.req_orientation = image.orientation;
    std::vector<uint32_t> pixels(size_t(out.width) * size_t(out.height));
    if (!TIFFRGBAImageGet(&image, pixels.data(), uint32_t(out.width), uint32_t(out.height))) bad();
    uint8_t* to = out.pixels.data();
    for (const uint32_t p : pixels)
      *to++ = uint8_t(TIFFGetR(p)), *to++ = uint8_t(TIFFGetG(p)), *to++ = uint8_t(TIFFGetB(p));
  }

  // Where the pixel at (y, x) of the image as it is seen is stored.
  std::array<int, 2> stored_at(int y, int x) const {
    const int bottom = stored_height_ - 1, right = stored_width_ - 1;
    switch (orientation_) {
      case ORIENTATION_TOPRIGHT:
        return {y, right - x};
      case ORIENTATION_BOTRIGHT:
        return {bottom - y, right - x};
      case ORIENTATION_BOTLEFT:
        return {bottom - y, x};
      case ORIENTATION_LEFTTOP:
        return {x, y};
      case ORIENTATION_RIGHTTOP:
        return {bottom - x, y};
      case ORIENTATION_RIGHTBOT:
        return {bottom - x, right - y};
      case ORIENTATION_LEFTBOT:
        return {x, right - y};
      default:
        return {y, x};
    }
  }

  Bytes bytes_;
  size_t at_ = 0;
  std::string name_;
  DecodeLimits limits_;
  char message_[256] = "";
  Kind kind_ = Kind::grey;
  int stored_height_ = 0, stored_width_ = 0, orientation_ = ORIENTATION_TOPLEFT;
  int bits_ = 0, samples_ = 0, format_ = 0;
  int used_ = 0;                                 // samples of a pixel that its colour depends on
  uint32_t block_width_ = 0, block_height_ = 0;  // of a strip or tile
  bool separate_ = false, tiled_ = false, white_is_zero_ = false, divide_by_alpha_ = false;
  std::array<Rgb, 256> palette_{};
  // The last to be made and the first to go: closing may report an error.
  std::unique_ptr<TIFF, void (*)(TIFF*)> tiff_{nullptr, TIFFClose};
};

}  // namespace

std::unique_ptr<Source> open_tiff(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  return std::make_unique<Tiff>(bytes, name, limits);
}

}  // namespace sg::data
