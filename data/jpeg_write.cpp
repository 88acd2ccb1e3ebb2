// libjpeg reports errors by longjmp: it passes over write() only, which owns nothing.
#include "data/jpeg_write.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>

// jpeglib.h needs FILE and size_t.
#include <jpeglib.h>

#include "core/error.h"

namespace sg::data {
namespace {

struct Output {
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  ~Output() { std::free(bytes); }
};

struct Errors {
  jpeg_error_mgr manager;  // first: libjpeg knows this one alone
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

bool write(const Image& image, int quality, ChromaSampling sampling, Errors& errors, Output& out) {
  jpeg_compress_struct c{};
  c.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = [](j_common_ptr p) {
    auto& e = *reinterpret_cast<Errors*>(p->err);
    e.manager.format_message(p, e.message);
    std::longjmp(e.jump, 1);
  };
  if (setjmp(errors.jump)) {
    jpeg_destroy_compress(&c);
    out.bytes = nullptr;  // libjpeg may have freed them
    return false;
  }
  jpeg_create_compress(&c);
  jpeg_mem_dest(&c, &out.bytes, &out.size);
  c.image_width = JDIMENSION(image.width), c.image_height = JDIMENSION(image.height);
  c.input_components = 3, c.in_color_space = JCS_RGB;
  jpeg_set_defaults(&c);
  jpeg_set_quality(&c, quality, TRUE);
  const int step = sampling == ChromaSampling::quarter ? 2 : 1;
  c.comp_info[0].h_samp_factor = c.comp_info[0].v_samp_factor = step;
  jpeg_start_compress(&c, TRUE);
  while (c.next_scanline < c.image_height) {
    auto* row = const_cast<JSAMPLE*>(image.row(int(c.next_scanline)));  // it only reads
    jpeg_write_scanlines(&c, &row, 1);
  }
  jpeg_finish_compress(&c);
  jpeg_destroy_compress(&c);
  return true;
}

}  // namespace

std::vector<uint8_t> encode_jpeg(const Image& image, int quality, ChromaSampling sampling) {
  check(image.height > 0 && image.width > 0 && quality >= 1 && quality <= 100,
        "encode_jpeg: {} x {} pixels, quality {}", image.height, image.width, quality);
  Errors errors;
  Output out;
  if (!write(image, quality, sampling, errors, out))
    fail(ExitCode::failure, "encode_jpeg: {}", errors.message);
  return {out.bytes, out.bytes + out.size};
}

}  // namespace sg::data
