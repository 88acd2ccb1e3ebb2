// libjpeg reports errors by longjmp: it passes over guarded() only, whose callable and everything
// that it calls own nothing, so no destructor is skipped.
#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <string>

// jpeglib.h needs FILE and size_t.
#include <jerror.h>
#include <jpeglib.h>

#include "data/decoders.h"

namespace sg::data {
namespace {

// Fancy upsampling mixes neighbours, so the border of a decoded strip differs from the same pixels
// inside of the image; a wider strip keeps its border outside of the box.
constexpr int kMargin = 4;

// Adobe's inverted CMYK: x * k / 255, rounded as Pillow does.
void cmyk_to_rgb(const uint8_t* in, int width, uint8_t* out) {
  for (int x = 0; x < width; ++x, in += 4, out += 3)
    for (int i = 0; i < 3; ++i) {
      const int t = (255 - in[i]) * in[3] + 128;
      out[i] = uint8_t(in[3] - ((t + (t >> 8)) >> 8));
    }
}

class Jpeg final : public Source {
 public:
  Jpeg(Bytes bytes, std::string_view name, const DecodeLimits& limits);
  ~Jpeg() override { jpeg_destroy_decompress(&c_); }
  void open();
  using Source::read;
  void read(const Box& box, Image& out) override;
  ImageView view(const Box& box, Image& scratch) override;

 private:
  template <class F>
  void guarded(F f) {
    if (setjmp(jump_)) broken(name_, "JPEG", message_);
    f();
  }
  static Jpeg& of(j_common_ptr c) { return *static_cast<Jpeg*>(c->client_data); }
  [[noreturn]] void stop(const char* message) {
    std::snprintf(message_, sizeof message_, "%s", message);
    std::longjmp(jump_, 1);
  }
  static void on_error(j_common_ptr c);
  static void on_warning(j_common_ptr c, int level);
  static void on_progress(j_common_ptr c);

  bool can_skip() const;

  Bytes bytes_;
  std::string name_;
  DecodeLimits limits_;
  jpeg_decompress_struct c_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_;
  char message_[JMSG_LENGTH_MAX + 64] = "";
};

void Jpeg::on_error(j_common_ptr c) {
  char text[JMSG_LENGTH_MAX];
  c->err->format_message(c, text);
  of(c).stop(text);
}

// Damage that libjpeg conceals is accepted, as Pillow does; a file that ends early is not.
void Jpeg::on_warning(j_common_ptr c, int level) {
  if (level < 0 && c->err->msg_code == JWRN_JPEG_EOF) on_error(c);
}

void Jpeg::on_progress(j_common_ptr c) {
  Jpeg& self = of(c);
  if (self.c_.input_scan_number > self.limits_.max_scans)
    self.stop("more progressive scans than any encoder writes (a decompression bomb?)");
}

Jpeg::Jpeg(Bytes bytes, std::string_view name, const DecodeLimits& limits)
    : bytes_(bytes), name_(name), limits_(limits) {
  c_.err = jpeg_std_error(&errors_);
  c_.client_data = this;
  errors_.error_exit = on_error;
  errors_.emit_message = on_warning;
  errors_.output_message = [](j_common_ptr) {};
  progress_.progress_monitor = on_progress;
}

void Jpeg::open() {
  guarded([this] {
    jpeg_create_decompress(&c_);
    c_.progress = &progress_;
    // Progressive files keep all coefficients: 2 bytes each, at most 4 channels.
    c_.mem->max_memory_to_use =
        long(std::min<int64_t>(limits_.max_pixels, INT64_MAX / 16)) * 8 + (long{16} << 20);
    jpeg_mem_src(&c_, bytes_.data(), static_cast<unsigned long>(bytes_.size()));
    jpeg_read_header(&c_, TRUE);
  });
  check_size(name_, "JPEG", c_.image_height, c_.image_width, limits_);
  height_ = int(c_.image_height), width_ = int(c_.image_width);
  switch (c_.num_components) {
    case 1:
    case 3:
      c_.out_color_space = JCS_RGB;
      break;
    case 4:
      c_.out_color_space = JCS_CMYK;
      break;
    default:
      fail(ExitCode::data, "{}: JPEG of {} channels; expected 1, 3 or 4; convert or remove it",
           name_, c_.num_components);
  }
  // Coded data contain no end marker, so its absence is truncation, in rows that are not read too.
  const uint8_t* from = c_.src->next_input_byte;
  const uint8_t* end = bytes_.data() + bytes_.size();
  constexpr uint8_t kEnd[] = {0xFF, JPEG_EOI};
  if (std::find_end(from, end, kEnd, kEnd + 2) == end)
    broken(name_, "JPEG", fmt::format("truncated after {} bytes", bytes_.size()));
}

// Where libjpeg may leave out rows and columns without changing the others; tests compare all of
// these layouts. Elsewhere the whole image is decoded.
bool Jpeg::can_skip() const {
  if (c_.arith_code || c_.progressive_mode || c_.comps_in_scan != c_.num_components) return false;
  if (c_.num_components == 1) return c_.max_h_samp_factor == 1 && c_.max_v_samp_factor == 1;
  if (c_.num_components != 3) return false;
  const jpeg_component_info* k = c_.comp_info;
  const auto is = [](const jpeg_component_info& i, int h, int v) {
    return i.h_samp_factor == h && i.v_samp_factor == v;
  };
  return is(k[1], 1, 1) && is(k[2], 1, 1) &&
         (is(k[0], 1, 1) || is(k[0], 2, 1) || is(k[0], 1, 2) || is(k[0], 2, 2));
}

void Jpeg::read(const Box& box, Image& out) {
  const ImageView part = view(box, out);
  for (int y = 0; y < box.height; ++y)
    std::memmove(out.pixels.data() + size_t(y) * size_t(box.width) * 3, part.row(y),
                 size_t(box.width) * 3);
  out.reset(box.height, box.width);
}

ImageView Jpeg::view(const Box& box, Image& scratch) {
  check_box(*this, box);
  JDIMENSION left = 0, width = c_.image_width;
  int top = box.top;
  guarded([&, this] {
    jpeg_start_decompress(&c_);
    if (!can_skip()) return;
    left = JDIMENSION(std::max(0, box.left - kMargin));
    width = JDIMENSION(std::min(width_, box.right() + kMargin)) - left;
    if (width < c_.output_width) jpeg_crop_scanline(&c_, &left, &width);
    top = std::max(0, top - kMargin);
    if (top > 0) jpeg_skip_scanlines(&c_, JDIMENSION(top));
  });
  scratch.reset(box.bottom() - top, int(width));
  std::vector<uint8_t> cmyk(c_.num_components == 4 ? size_t(width) * 4 : 0);
  guarded([&, this, line = cmyk.data()]() mutable {
    uint8_t* unused = line ? line : scratch.row(0);
    while (int(c_.output_scanline) < top) jpeg_read_scanlines(&c_, &unused, 1);
    for (int y = 0; y < scratch.height;) {
      if (line) {
        jpeg_read_scanlines(&c_, &line, 1);
        cmyk_to_rgb(line, scratch.width, scratch.row(y++));
      } else {  // libjpeg makes as many at once as share a row of chroma
        uint8_t* rows[] = {scratch.row(y), scratch.row(std::min(y + 1, scratch.height - 1))};
        y += int(jpeg_read_scanlines(&c_, rows, y + 1 < scratch.height ? 2 : 1));
      }
    }
  });
  return scratch.view().crop({box.left - int(left), box.top - top, box.width, box.height});
}

}  // namespace

std::unique_ptr<Source> open_jpeg(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  auto jpeg = std::make_unique<Jpeg>(bytes, name, limits);
  jpeg->open();
  return jpeg;
}

}  // namespace sg::data
