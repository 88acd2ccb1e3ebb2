// libpng reports errors by longjmp: it passes over guarded() only, whose callable owns nothing, so
// no destructor is skipped.
#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "data/decoders.h"

namespace sg::data {
namespace {

class Png final : public Source {
 public:
  Png(Bytes bytes, std::string_view name) : bytes_(bytes), name_(name) {}
  ~Png() override { png_destroy_read_struct(&png_, &info_, nullptr); }
  void open(const DecodeLimits& limits);
  using Source::read;
  void read(const Box& box, Image& out) override;
  void read_indices(LabelImage& out);

 private:
  template <class F>
  void guarded(F f) {
    if (setjmp(jump_)) broken(name_, "PNG", message_);
    f();
  }
  static void on_error(png_structp png, png_const_charp message);
  static void on_read(png_structp png, png_bytep to, size_t bytes);
  static void clip_grey(png_structp, png_row_infop row, png_bytep pixels);
  bool ends() const;

  Bytes bytes_;
  size_t at_ = 0;
  std::string name_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf jump_;
  char message_[128] = "";
  bool ends_ = true;
};

void Png::on_error(png_structp png, png_const_charp message) {
  auto& self = *static_cast<Png*>(png_get_error_ptr(png));
  std::snprintf(self.message_, sizeof self.message_, "%s", message);
  std::longjmp(self.jump_, 1);
}

void Png::on_read(png_structp png, png_bytep to, size_t bytes) {
  auto& self = *static_cast<Png*>(png_get_io_ptr(png));
  if (bytes > self.bytes_.size() - self.at_) png_error(png, "truncated");
  std::memcpy(to, self.bytes_.data() + self.at_, bytes);
  self.at_ += bytes;
}

// Grey of 16 bits, already in three channels, to bytes as Pillow does: clipped.
void Png::clip_grey(png_structp, png_row_infop row, png_bytep pixels) {
  for (size_t i = 0; i < size_t(row->width) * 3; ++i)
    pixels[i] = pixels[2 * i] != 0 ? 255 : pixels[2 * i + 1];
}

// Whether the last chunk, IEND, is there, found by walking over the chunks. Without it the pixels
// may still be whole; that is known when all of them have been read.
bool Png::ends() const {
  for (size_t at = 8; bytes_.size() - at >= 12;) {
    const uint8_t* p = bytes_.data() + at;
    if (std::memcmp(p + 4, "IEND", 4) == 0) return true;
    const size_t length = png_get_uint_32(p);
    if (length > bytes_.size() - at - 12) break;
    at += 12 + length;
  }
  return false;
}

void Png::open(const DecodeLimits& limits) {
  ends_ = ends();
  // libpng's own jump buffer is not used: errors end in on_error.
  guarded([&, this] {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error,
                                  [](png_structp, png_const_charp) {});
    if (png_) info_ = png_create_info_struct(png_);
    if (!info_) return;
    png_set_read_fn(png_, this, on_read);
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // check_size says more
    // Text, profiles and the like may be compressed bombs; none of them changes pixels.
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_read_info(png_, info_);
  });
  check(info_ != nullptr, "{}: out of memory", name_);
  check_size(name_, "PNG", png_get_image_height(png_, info_), png_get_image_width(png_, info_),
             limits);
  height_ = int(png_get_image_height(png_, info_)), width_ = int(png_get_image_width(png_, info_));
}

void Png::read(const Box& box, Image& out) {
  check_box(*this, box);
  out.reset(box.height, box.width);
  Image whole;
  std::vector<uint8_t> line;
  const bool interlaced = png_get_interlace_type(png_, info_) != PNG_INTERLACE_NONE;
  if (interlaced)
    whole.reset(height_, width_);
  else
    line.resize(size_t(width_) * 3);
  guarded([&, this] {
    png_set_expand_gray_1_2_4_to_8(png_);
    png_set_palette_to_rgb(png_);
    if (png_get_bit_depth(png_, info_) == 16 &&
        png_get_color_type(png_, info_) == PNG_COLOR_TYPE_GRAY) {
      png_set_read_user_transform_fn(png_, clip_grey);
      png_set_user_transform_info(png_, nullptr, 8, 3);
    } else {
      png_set_strip_16(png_);
    }
    png_set_strip_alpha(png_);
    png_set_gray_to_rgb(png_);
    const int passes = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    if (png_get_rowbytes(png_, info_) != size_t(width_) * 3) png_error(png_, "unexpected layout");
    if (interlaced) {
      for (int pass = 0; pass < passes; ++pass)
        for (int y = 0; y < height_; ++y) png_read_row(png_, whole.row(y), nullptr);
    } else {
      for (int y = 0, rows = ends_ ? box.bottom() : height_; y < rows; ++y) {
        png_read_row(png_, line.data(), nullptr);
        if (y >= box.top && y < box.bottom())
          std::memcpy(out.row(y - box.top), &line[size_t(box.left) * 3], size_t(box.width) * 3);
      }
    }
    if (ends_ && (interlaced || box.bottom() == height_))
      png_read_end(png_, nullptr);  // the last checksum
  });
  if (interlaced) copy_box(whole.view(), box, out);
}

void Png::read_indices(LabelImage& out) {
  const int type = png_get_color_type(png_, info_), depth = png_get_bit_depth(png_, info_);
  if (type != PNG_COLOR_TYPE_GRAY && type != PNG_COLOR_TYPE_PALETTE)
    fail(ExitCode::data,
         "{}: expected a label image of one number a pixel (a grey or palette PNG), found {}; map "
         "each colour to the number of its class and write those",
         name_, type == PNG_COLOR_TYPE_GRAY_ALPHA ? "grey with alpha" : "colours (RGB)");
  if (depth > 8)
    fail(ExitCode::data,
         "{}: expected a label image of 8 bits, numbers of up to 255, found one of 16 bits; "
         "write it with 8",
         name_);
  out.reset(height_, width_);
  guarded([&, this] {
    png_set_packing(png_);
    const int passes = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    for (int pass = 0; pass < passes; ++pass)
      for (int y = 0; y < height_; ++y)
        png_read_row(png_, &out.pixels[size_t(y) * size_t(width_)], nullptr);
    if (ends_) png_read_end(png_, nullptr);  // the last checksum
  });
}

}  // namespace

void decode_png_indices(Bytes bytes, std::string_view name, const DecodeLimits& limits,
                        LabelImage& out) {
  Png png(bytes, name);
  png.open(limits);
  png.read_indices(out);
}

std::unique_ptr<Source> open_png(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  auto png = std::make_unique<Png>(bytes, name);
  png->open(limits);
  return png;
}

}  // namespace sg::data
