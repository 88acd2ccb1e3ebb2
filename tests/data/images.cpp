#include "tests/data/images.h"

#include <png.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include <jpeglib.h>

#include "data/decode.h"

namespace sg::test {

using data::Image;

Image noise(int height, int width, uint64_t seed) {
  Random random(seed, Purpose::test, uint64_t(height), uint64_t(width));
  Image image;
  image.reset(height, width);
  for (auto& p : image.pixels) p = uint8_t(random.u32());
  return image;
}

Image scene(int height, int width, uint64_t seed) {
  Image image = noise(height, width, seed);
  const double phase = double(seed % 100);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width * 3; ++x) {
      const double wave = std::sin(phase + x / 3 * 0.11 + y * 0.07 * (x % 3 + 1));
      image.row(y)[x] = uint8_t(110 + 90 * wave + image.row(y)[x] % 50);
    }
  return image;
}

Bytes jpeg(const Image& image, const JpegOptions& o) {
  jpeg_compress_struct c{};
  jpeg_error_mgr errors;
  c.err = jpeg_std_error(&errors);
  jpeg_create_compress(&c);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&c, &memory, &size);
  c.image_width = JDIMENSION(image.width), c.image_height = JDIMENSION(image.height);
  c.input_components = o.channels;
  c.in_color_space = o.channels == 1 ? JCS_GRAYSCALE : o.channels == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&c);
  jpeg_set_quality(&c, o.quality, TRUE);
  c.comp_info[0].h_samp_factor = o.across, c.comp_info[0].v_samp_factor = o.down;
  if (o.channels == 3) c.comp_info[1].h_samp_factor = o.chroma_across;
  if (o.progressive) jpeg_simple_progression(&c);
  c.arith_code = o.arithmetic;
  c.restart_in_rows = o.restart_rows;
  jpeg_start_compress(&c, TRUE);
  Bytes line(size_t(image.width) * 4);
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* row = image.row(y);
    for (int x = 0; x < image.width; ++x)
      for (int k = 0; k < o.channels; ++k)
        line[size_t(x * o.channels + k)] = k < 3 ? row[x * 3 + k] : uint8_t(row[x * 3] / 2 + 120);
    JSAMPROW in = line.data();
    jpeg_write_scanlines(&c, &in, 1);
  }
  jpeg_finish_compress(&c);
  const Bytes bytes(memory, memory + size);
  jpeg_destroy_compress(&c);
  std::free(memory);
  return bytes;
}

Bytes png(Image image, bool interlaced) {
  Bytes bytes;
  png_structp p = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(p);
  png_set_write_fn(
      p, &bytes,
      [](png_structp s, png_bytep from, size_t n) {
        auto& to = *static_cast<Bytes*>(png_get_io_ptr(s));
        to.insert(to.end(), from, from + n);
      },
      nullptr);
  png_set_IHDR(p, info, png_uint_32(image.width), png_uint_32(image.height), 8, PNG_COLOR_TYPE_RGB,
               interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  std::vector<png_bytep> rows;
  for (int y = 0; y < image.height; ++y) rows.push_back(image.row(y));
  png_set_rows(p, info, rows.data());
  png_write_png(p, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&p, &info);
  return bytes;
}

Bytes ppm(const Image& image) {
  const std::string head = "P6\n# made by a test\n" + std::to_string(image.width) + " " +
                           std::to_string(image.height) + "\n255\n";
  Bytes bytes(head.begin(), head.end());
  bytes.insert(bytes.end(), image.pixels.begin(), image.pixels.end());
  return bytes;
}

Bytes decode_all(const Bytes& file) { return data::decode(file, "test").pixels; }

Bytes read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace sg::test
