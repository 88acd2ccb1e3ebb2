#include "data/label_image.h"

#include <doctest/doctest.h>
#include <png.h>

#include <set>

#include "data/png_write.h"
#include "tests/data/images.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;
using test::contains;

namespace {

// A PNG of one number a pixel, of 1, 2, 4, 8 or 16 bits each, grey or of a palette.
test::Bytes index_png(const std::vector<uint8_t>& numbers, int height, int width, int depth,
                      int type, bool interlaced = false) {
  test::Bytes bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &bytes,
      [](png_structp p, png_bytep data, size_t n) {
        auto& to = *static_cast<test::Bytes*>(png_get_io_ptr(p));
        to.insert(to.end(), data, data + n);
      },
      nullptr);
  png_set_IHDR(png, info, png_uint_32(width), png_uint_32(height), depth, type,
               interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  std::vector<png_color> palette(size_t(1) << std::min(depth, 8));
  for (size_t i = 0; i < palette.size(); ++i) palette[i] = {uint8_t(i * 37), uint8_t(i), 99};
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette.data(), int(palette.size()));
  png_write_info(png, info);
  if (depth < 8) png_set_packing(png);
  std::vector<uint8_t> rows = numbers;
  if (depth == 16) {
    rows.clear();
    for (const uint8_t n : numbers) rows.insert(rows.end(), {0, n});
  }
  const size_t pitch = rows.size() / size_t(height);
  std::vector<png_bytep> starts;
  for (int y = 0; y < height; ++y) starts.push_back(rows.data() + size_t(y) * pitch);
  png_write_image(png, starts.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

LabelImage decoded(const test::Bytes& file) {
  LabelImage label;
  decode_label(file, "a.png", label);
  return label;
}

std::string refused(const test::Bytes& file) {
  return test::error_of(ExitCode::data, [&] { decoded(file); });
}

}  // namespace

TEST_CASE("labels: numbers as they are stored, of grey and palettes of all depths") {
  for (const int depth : {1, 2, 4, 8})
    for (const int type : {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_PALETTE})
      for (const bool interlaced : {false, true}) {
        CAPTURE(depth);
        CAPTURE(type);
        CAPTURE(interlaced);
        std::vector<uint8_t> numbers;
        for (int i = 0; i < 11 * 13; ++i) numbers.push_back(uint8_t(i * 7 % (1 << depth)));
        const LabelImage label = decoded(index_png(numbers, 11, 13, depth, type, interlaced));
        CHECK(label.height == 11);
        CHECK(label.width == 13);
        CHECK(label.pixels == numbers);
      }
}

TEST_CASE("labels: what holds no numbers is refused with what to do") {
  CHECK(contains(refused(test::png(test::noise(4, 4))), "a.png: expected a label image of one "));
  CHECK(contains(refused(test::png(test::noise(4, 4))), "map each colour to the number"));
  CHECK(contains(refused(test::jpeg(test::noise(4, 4))), "write it as PNG"));
  CHECK(contains(refused({}), "PNG"));
  const std::vector<uint8_t> numbers(12, 3);
  CHECK(contains(refused(index_png(numbers, 3, 4, 16, PNG_COLOR_TYPE_GRAY)), "one of 16 bits"));
  test::Bytes half = index_png(std::vector<uint8_t>(4000, 3), 40, 100, 8, PNG_COLOR_TYPE_GRAY);
  half.resize(half.size() / 2);
  CHECK(contains(refused(half), "a.png"));
  half = index_png(numbers, 3, 4, 8, PNG_COLOR_TYPE_GRAY);
  half[half.size() - 20] ^= 1;
  CHECK(contains(refused(half), "a.png"));
}

TEST_CASE("labels: written as palette PNGs that give them back, and show colours elsewhere") {
  for (const int classes : {1, 2, 5, 19, 150, 255}) {
    CAPTURE(classes);
    LabelImage label;
    label.reset(9, 31);
    for (size_t i = 0; i < label.pixels.size(); ++i) label.pixels[i] = uint8_t(i % size_t(classes));
    const std::vector<Rgb> palette = class_palette(classes);
    const auto file = encode_label_png(label, palette);
    CHECK(is_own_png({reinterpret_cast<const char*>(file.data()), file.size()}));
    CHECK(decoded(file).pixels == label.pixels);
    const Image shown = decode(file, "a.png");
    for (size_t i = 0; i < label.pixels.size(); ++i)
      for (size_t c = 0; c < 3; ++c)
        REQUIRE(shown.pixels[i * 3 + c] == palette[label.pixels[i]][c]);
  }
  LabelImage label;
  label.reset(1, 1);
  label.pixels[0] = 2;
  test::error_of(ExitCode::failure, [&] { encode_label_png(label, class_palette(2)); });
}

TEST_CASE("palette: Pascal VOC's colours from the second on, all different and none black") {
  const std::vector<Rgb> palette = class_palette(255);
  CHECK(palette[0] == Rgb{128, 0, 0});  // aeroplane
  CHECK(palette[1] == Rgb{0, 128, 0});
  CHECK(palette[14] == Rgb{192, 128, 128});  // person
  CHECK(palette[19] == Rgb{0, 64, 128});     // tv monitor
  std::set<Rgb> different(palette.begin(), palette.end());
  CHECK(different.size() == 255);
  CHECK(!different.contains(Rgb{0, 0, 0}));
}
