#include "data/decode.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "tests/data/images.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;
using test::Bytes;
using test::contains;
using namespace std::string_literals;

namespace {

Image cropped(const Image& image, const Box& b) {
  Image out;
  out.reset(b.height, b.width);
  for (int y = 0; y < b.height; ++y)
    std::copy_n(image.row(b.top + y) + b.left * 3, b.width * 3, out.row(y));
  return out;
}

// Random boxes, many of them at the border, where upsampling sees other neighbours.
void check_regions(const Bytes& bytes, int boxes) {
  const Image all = decode(bytes, "all");
  Random random(5, Purpose::test, bytes.size());
  Image scratch;
  int wrong = 0;
  for (int i = 0; i < boxes; ++i) {
    Box b;
    const auto pick = [&](int size, int& from, int& length) {
      length = int(random.integer(1, size));
      from = int(random.integer(0, size - length));
      if (random.bernoulli(0.2)) from = 0;
      if (random.bernoulli(0.2)) from = size - length;
    };
    pick(all.width, b.left, b.width);
    pick(all.height, b.top, b.height);
    const Image expected = cropped(all, b);
    wrong += decode_region(bytes, "part", b).pixels != expected.pixels;
    const ImageView view = open_image(bytes, "view")->view(b, scratch);
    REQUIRE(view.height == b.height);
    REQUIRE(view.width == b.width);
    for (int y = 0; y < b.height; ++y)
      wrong += !std::equal(expected.row(y), expected.row(y) + b.width * 3, view.row(y));
  }
  CHECK(wrong == 0);
}

std::string decode_error(const Bytes& bytes, const DecodeLimits& limits = {}) {
  return test::error_of(ExitCode::data, [&] { decode(bytes, "name.jpg", limits); });
}

}  // namespace

TEST_CASE("a TIFF takes memory for its pixels, whatever the size of its tiles") {
  // RGB, 16 x 16, planes apart: header, directory, then three lists and the bytes of a pixel.
  const auto tiff = [](uint32_t tile_width, uint32_t tile_height) {
    Bytes b{'I', 'I', 42, 0, 8, 0, 0, 0};
    const auto add = [&](uint64_t v, int n) {
      for (int i = 0; i < n; ++i) b.push_back(uint8_t(v >> (8 * i)));
    };
    const std::array<uint32_t, 4> entries[] = {
        {256, 3, 1, 16},          {257, 3, 1, 16},  {258, 3, 3, 146}, {259, 3, 1, 1},
        {262, 3, 1, 2},           {277, 3, 1, 3},   {284, 3, 1, 2},   {322, 4, 1, tile_width},
        {323, 4, 1, tile_height}, {324, 4, 3, 152}, {325, 4, 3, 164}};
    add(std::size(entries), 2);
    for (const auto& [tag, type, count, value] : entries)
      add(tag, 2), add(type, 2), add(count, 4), add(value, 4);
    add(0, 4);
    for (int i = 0; i < 3; ++i) add(8, 2);
    const uint32_t bytes = tile_width > 4096 ? 1 : tile_width * tile_height;
    for (uint32_t i = 0; i < 3; ++i) add(176 + i * bytes, 4);
    for (int i = 0; i < 3; ++i) add(bytes, 4);
    for (uint32_t i = 0; i < 3; ++i) b.insert(b.end(), bytes, uint8_t(10 * (i + 1)));
    return b;
  };
  for (const auto& [w, h] : {std::pair{30000, 46000}, {16, 46000}, {30000, 16}})
    CHECK(contains(decode_error(tiff(uint32_t(w), uint32_t(h))),
                   fmt::format("tiles of {} x {} for an image of 16 x 16", w, h)));
  // Tiles larger than a small image are usual.
  for (const uint32_t side : {16u, 512u}) {
    const Image image = decode(tiff(side, side), "tiles");
    REQUIRE(image.width == 16);
    for (size_t i = 0; i < image.pixels.size(); ++i) REQUIRE(image.pixels[i] == 10 * (i % 3 + 1));
  }
}

TEST_CASE("a region of a JPEG is the same pixels as the whole image cropped") {
  const int sizes[][2] = {{1, 1}, {3, 17}, {16, 16}, {33, 40}, {131, 97}, {200, 203}};
  for (const auto& [h, w] : sizes)
    for (const auto& [across, down] :
         {std::pair{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}, {4, 2}, {3, 1}})
      for (const bool progressive : {false, true}) {
        INFO(h, " x ", w, " sampling ", across, down, progressive);
        check_regions(test::jpeg(test::scene(h, w),
                                 {.across = across, .down = down, .progressive = progressive}),
                      40);
      }
}

TEST_CASE("so is a region of the rarer kinds") {
  const Image image = test::scene(150, 133);
  check_regions(test::jpeg(image, {.channels = 1, .across = 1, .down = 1}), 60);
  check_regions(test::jpeg(image, {.channels = 1, .across = 2, .down = 2}), 60);
  check_regions(test::jpeg(image, {.channels = 4, .across = 1, .down = 1}), 60);
  check_regions(test::jpeg(image, {.channels = 4, .across = 2, .down = 2}), 60);
  check_regions(test::jpeg(image, {.across = 2, .down = 2, .chroma_across = 2}), 60);
  check_regions(test::jpeg(image, {.arithmetic = true}), 60);
  check_regions(test::jpeg(image, {.restart_rows = 1}), 60);
  check_regions(test::png(image), 60);
  check_regions(test::png(image, true), 60);
  check_regions(test::ppm(image), 60);
}

TEST_CASE("a lossless image comes back from PNG and PPM") {
  const Image image = test::noise(37, 29);
  CHECK(decode(test::png(image), "a").pixels == image.pixels);
  CHECK(decode(test::png(image, true), "a").pixels == image.pixels);
  CHECK(decode(test::ppm(image), "a").pixels == image.pixels);
  const ImageSize size = probe(test::png(image), "a");
  CHECK(size.height == 37);
  CHECK(size.width == 29);
}

TEST_CASE("grey JPEG gives three equal channels, CMYK is taken as inverted") {
  Image image = test::scene(24, 24);
  const Image grey = decode(test::jpeg(image, {.channels = 1, .across = 1, .down = 1}), "a");
  bool equal = true;
  for (size_t i = 0; i < grey.pixels.size(); i += 3)
    equal &= grey.pixels[i] == grey.pixels[i + 1] && grey.pixels[i] == grey.pixels[i + 2];
  CHECK(equal);
  std::fill(image.pixels.begin(), image.pixels.end(), uint8_t(255));  // K is 247 then
  const Image ink =
      decode(test::jpeg(image, {.channels = 4, .across = 1, .down = 1, .quality = 100}), "a");
  CHECK(std::abs(ink.pixels[0] - 247) <= 2);
}

TEST_CASE("small files by hand: GIF, BMP, PGM of 8 and 16 bits") {
  // 2 x 1, palette black, white.
  const Bytes gif = {'G', 'I',  'F', '8', '9', 'a', 2, 0, 1, 0, 0x80, 0, 0, 0,    0,    0, 255, 255,
                     255, 0x2C, 0,   0,   0,   0,   2, 0, 1, 0, 0,    2, 2, 0x44, 0x0A, 0, 0x3B};
  CHECK(decode(gif, "a").pixels == Bytes{0, 0, 0, 255, 255, 255});
  // 1 x 1, 24 bits, B G R.
  Bytes bmp(58, 0);
  bmp[0] = 'B', bmp[1] = 'M', bmp[2] = 58, bmp[10] = 54, bmp[14] = 40, bmp[18] = 1, bmp[22] = 1;
  bmp[26] = 1, bmp[28] = 24, bmp[54] = 3, bmp[55] = 2, bmp[56] = 1;
  CHECK(decode(bmp, "a").pixels == Bytes{1, 2, 3});
  // Two rows from the top: the height is below 0. Of 16 bits: 5, 5 and 5, or 5, 6 and 5.
  Bytes rows(62, 0);
  std::copy_n(bmp.begin(), 54, rows.begin());
  rows[22] = 0xFE, rows[23] = rows[24] = rows[25] = 0xFF;
  rows[54] = 3, rows[55] = 2, rows[56] = 1, rows[58] = 6, rows[59] = 5, rows[60] = 4;
  const Image from_top = decode(rows, "a");
  CHECK(from_top.height == 2);
  CHECK(from_top.pixels == Bytes{1, 2, 3, 4, 5, 6});
  CHECK(decode_region(rows, "a", {0, 1, 1, 1}).pixels == Bytes{4, 5, 6});
  rows[22] = rows[23] = rows[24] = 0, rows[25] = 0x80;
  CHECK(contains(decode_error(rows), "at most"));
  Bytes bits(58, 0);
  std::copy_n(bmp.begin(), 54, bits.begin());
  bits[28] = 16, bits[54] = 0x45, bits[55] = 0x0C;  // 3, 2, 5 of 31
  CHECK(decode(bits, "a").pixels == Bytes{3 * 255 / 31, 2 * 255 / 31, 5 * 255 / 31});
  Bytes masks(70, 0);
  std::copy_n(bmp.begin(), 54, masks.begin());
  masks[10] = 66, masks[28] = 16, masks[30] = 3, masks[55] = 0xF8, masks[58] = 0xE0;
  masks[59] = 7, masks[62] = 31, masks[66] = 0x65, masks[67] = 0x18;  // 3 of 31, 3 of 63, 5 of 31
  CHECK(decode(masks, "a").pixels == Bytes{3 * 255 / 31, 3 * 255 / 63, 5 * 255 / 31});
  const std::string pgm = "P5 2 1 255\n\x10\x20", deep = "P5\n2 1\n65535\n\x80\x01\0\x07"s;
  CHECK(decode(Bytes(pgm.begin(), pgm.end()), "a").pixels == Bytes{16, 16, 16, 32, 32, 32});
  CHECK(decode(Bytes(deep.begin(), deep.end()), "a").pixels == Bytes{255, 255, 255, 7, 7, 7});
}

TEST_CASE("files of every kind have the pixels that Pillow shows") {
  namespace fs = std::filesystem;
  int compared = 0;
  for (const fs::path& folder :
       {fs::path(SG_TEST_DATA_DIR) / "pillow", test::shared("cases/images")}) {
    if (folder.empty()) return;
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string path = entry.path().string(), expected = path + ".expected.png";
      if (!fs::exists(expected)) continue;
      INFO(path);
      const Image theirs = decode(test::read(expected), expected);
      Image ours;
      CHECK_NOTHROW(ours = decode(test::read(path), path));
      REQUIRE(ours.height == theirs.height);
      REQUIRE(ours.width == theirs.width);
      int worst = 0;
      for (size_t i = 0; i < ours.pixels.size(); ++i)
        worst = std::max(worst, std::abs(ours.pixels[i] - theirs.pixels[i]));
      // Decoders of lossy formats round and upsample differently.
      const std::string name = entry.path().filename().string();
      const bool lossy = contains(name, "lossy") || contains(name, "jpeg.tif") ||
                         contains(name, "jfif") || contains(name, "webp_named");
      CHECK(worst <= (contains(name, ".avif") ? 4 : lossy ? 1 : 0));
      ++compared;
    }
  }
  CHECK(compared >= 90);
}

TEST_CASE("the codecs of a damaged AVIF print nothing: the error says it") {
  Bytes avif = test::read(std::string(SG_TEST_DATA_DIR) + "/pillow/plain.avif");
  const auto pixels = std::ranges::search(avif, std::string_view("mdat")).end();
  REQUIRE(pixels != avif.end());
  for (auto at = pixels; at < avif.end(); ++at) *at ^= 0xFF;
  const test::TemporaryFolder folder;
  const FileDescriptor before(::dup(STDERR_FILENO));
  const FileDescriptor said(::open((folder / "said").c_str(), O_WRONLY | O_CREAT, 0600));
  ::dup2(said.get(), STDERR_FILENO);
  const std::string error = decode_error(avif);
  (void)!::write(STDERR_FILENO, "ours\n", 5);  // which still goes where it went
  ::dup2(before.get(), STDERR_FILENO);
  CHECK(contains(error, "broken AVIF"));
  CHECK(read_file(folder / "said") == "ours\n");
}

TEST_CASE("regions of the new kinds, and files cut anywhere") {
  for (const char* name : {"tiled.tif", "planar_rows.tif", "orientation6.tif", "interlaced.gif",
                           "rle4.bmp", "p3.ppm", "lossy.webp", "plain.avif", "no_iend.png"}) {
    INFO(name);
    const Bytes whole = test::read(std::string(SG_TEST_DATA_DIR) + "/pillow/" + name);
    check_regions(whole, 20);
    const Bytes half(whole.begin(), whole.begin() + long(whole.size() / 2));
    CHECK(contains(decode_error(half), "name.jpg: "));
    test::error_of(ExitCode::data, [&] { decode_region(half, "name.jpg", {0, 0, 1, 1}); });
    CHECK(contains(decode_error(whole, {.max_pixels = 50}),
                   contains(name, "avif") ? "too large" : "at most 50 pixels"));
  }
}

TEST_CASE("a file cut anywhere is an error that names it, in rows that are not read too") {
  const Image image = test::scene(40, 40);
  const Bytes files[] = {test::jpeg(image), test::jpeg(image, {.progressive = true}),
                         test::png(image), test::png(image, true), test::ppm(image)};
  for (const Bytes& whole : files) {
    // The end chunk of a PNG, and the two checksums before it, may be missing: the pixels are
    // whole.
    const size_t needed = whole.size() - (whole[0] == 0x89 ? 12 + 4 + 4 : 0);
    for (size_t n = 0; n < needed; n += 1 + n / 20) {
      const Bytes cut(whole.begin(), whole.begin() + long(n));
      CHECK(contains(decode_error(cut), "name.jpg: "));
      test::error_of(ExitCode::data, [&] { decode_region(cut, "name.jpg", {0, 0, 4, 1}); });
    }
    decode(whole, "whole");
  }
}

TEST_CASE("sizes are checked before memory is taken") {
  Bytes jpeg = test::jpeg(test::scene(16, 16));
  const uint8_t frame[] = {0xFF, 0xC0};
  auto at = std::search(jpeg.begin(), jpeg.end(), frame, frame + 2);
  for (int i : {5, 7}) at[i] = 0xFF, at[i + 1] = 0xDC;
  CHECK(contains(decode_error(jpeg), "65500 x 65500"));
  CHECK(contains(decode_error(jpeg), "180000000 pixels"));
  Bytes png = test::png(test::scene(16, 16));
  for (int i : {16, 17, 18, 19, 20, 21, 22, 23}) png[size_t(i)] = 0x7F;
  decode_error(png);  // the checksum of the header does not fit either
  const std::string ppm = "P6 60000 60000 255\n";
  CHECK(contains(decode_error(Bytes(ppm.begin(), ppm.end())), "60000 x 60000"));
  const Bytes small = test::jpeg(test::scene(20, 30));
  CHECK(contains(decode_error(small, {.max_pixels = 599}), "30 x 20"));
  CHECK(contains(decode_error(small, {.max_bytes = 100}), "at most 100"));
  decode(small, "a", {.max_pixels = 600});
}

TEST_CASE("a progressive JPEG of endless scans ends in an error, soon") {
  const Bytes one = test::jpeg(test::scene(64, 64), {.progressive = true});
  // Repeat the last scan: from its SOS to the end marker.
  const uint8_t sos[] = {0xFF, 0xDA};
  const auto last = std::find_end(one.begin(), one.end(), sos, sos + 2);
  Bytes bomb = one;
  bomb.resize(bomb.size() - 2);
  for (int i = 0; i < 5000; ++i) bomb.insert(bomb.end(), last, one.end() - 2);
  bomb.insert(bomb.end(), {0xFF, 0xD9});
  const auto start = std::chrono::steady_clock::now();
  CHECK(contains(decode_error(bomb), "scans"));
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
}

TEST_CASE("what is not an image is told by its content") {
  CHECK(contains(decode_error({}), "an empty file"));
  const std::string html = "<html>404</html>", heic =
                                                   "\0\0\0\x14"
                                                   "ftypheic\0\0\0\0mif1"s;
  CHECK(contains(decode_error(Bytes(html.begin(), html.end())), "failed download"));
  CHECK(contains(decode_error(Bytes(heic.begin(), heic.end())), "HEIC"));
  decode(test::png(test::scene(5, 5)), "a PNG named.JPEG");
}

TEST_CASE("files on disk: missing, a folder, a pipe") {
  const test::TemporaryFolder folder;
  std::vector<uint8_t> bytes;
  for (const char* name : {"missing.jpg", ""})
    CHECK(contains(
        test::error_of(ExitCode::data, [&] { read_bytes((folder / name).string(), bytes); }),
        folder.path().string()));
}

TEST_CASE("reference files equal the pixels beside them") {
  const std::filesystem::path root = test::shared("data/odd/jpeg-decoder/reftest");
  if (root.empty()) return;
  int compared = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    auto expected = entry.path();
    expected.replace_extension(".png");
    const std::string path = entry.path().string();
    if (entry.path().extension() != ".jpg" || !std::filesystem::exists(expected)) continue;
    // libjpeg has no lossless mode; it is an error, not a wrong image.
    if (contains(path, "lossless")) {
      decode_error(test::read(path));
      continue;
    }
    const Image ours = decode(test::read(path), path);
    const Bytes png = test::read(expected.string());
    if (png[24] == 16) continue;  // its grey of 16 bits is clipped
    const Image theirs = decode(png, expected.string());
    REQUIRE(ours.pixels.size() == theirs.pixels.size());
    int worst = 0;
    for (size_t i = 0; i < ours.pixels.size(); ++i)
      worst = std::max(worst, std::abs(ours.pixels[i] - theirs.pixels[i]));
    INFO(path);
    // The PNGs were made by ImageMagick: its CMYK arithmetic differs by a rounding, and the others
    // named here came from another inverse transform (1 in a channel, 2 after a second rounding).
    const int tolerance = contains(path, "restarts") || contains(path, "sampling2x2") ? 2
                          : contains(path, "rgb.jpg") || contains(path, "cmyk")       ? 1
                                                                                      : 0;
    CHECK(worst <= tolerance);
    ++compared;
  }
  CHECK(compared >= 20);
}

TEST_CASE("every odd file is pixels or an error, in little time and memory") {
  const std::filesystem::path odd = test::shared("data/odd");
  if (odd.empty()) return;
  const auto start = std::chrono::steady_clock::now();
  int decoded = 0, refused = 0;
  std::vector<uint8_t> bytes;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(odd)) {
    if (!entry.is_regular_file()) continue;
    const std::string path = entry.path().string();
    try {
      read_bytes(path, bytes);
      decode(bytes, path);
      ++decoded;
      decode_region(bytes, path, {0, 0, 1, 1});
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::data);
      CHECK(contains(e.what(), path));
      ++refused;
    }
  }
  MESSAGE(decoded << " odd files decoded, " << refused << " refused");
  CHECK(decoded > 500);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(120));
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  CHECK(usage.ru_maxrss < 2'000'000);  // kB; the largest of these files is within the pixel limit
}

TEST_CASE("flipped bytes never crash") {
  const Image image = test::scene(48, 48);
  const std::string gif =
      test::text({'G', 'I', 'F', '8', '9', 'a',  4,    0,    4,    0,    0x80, 0,   0,
                  0,   0,   0,   255, 255, 255,  0x2C, 0,    0,    0,    0,    4,   0,
                  4,   0,   0,   2,   5,   0x84, 0x1D, 0x7A, 0x5A, 0x05, 0,    0x3B});
  std::vector<Bytes> files = {test::jpeg(image),
                              test::jpeg(image, {.progressive = true}),
                              test::jpeg(image, {.channels = 4, .arithmetic = true}),
                              test::png(image),
                              test::png(image, true),
                              test::ppm(image),
                              Bytes(gif.begin(), gif.end())};
  Bytes bmp(54 + 16 * 48, 77);
  const uint8_t head[] = {'B', 'M', 0, 0, 0, 0,  0, 0, 0, 0, 54, 0,  0, 0, 40, 0, 0,
                          0,   16,  0, 0, 0, 16, 0, 0, 0, 1, 0,  24, 0, 0, 0,  0, 0};
  std::copy(std::begin(head), std::end(head), bmp.begin());
  files.push_back(bmp);
  Random random(9, Purpose::test);
  const DecodeLimits limits{.max_pixels = 1'000'000};
  for (const Bytes& whole : files)
    for (int i = 0; i < 400; ++i) {
      Bytes damaged = whole;
      for (int k = 0; k <= i % 4; ++k)
        damaged[size_t(random.integer(0, int64_t(whole.size()) - 1))] = uint8_t(random.u32());
      if (i % 5 == 0) damaged.resize(size_t(random.integer(0, int64_t(whole.size()))));
      try {
        const auto source = open_image(damaged, "damaged", limits);
        Image out;
        source->read({source->width() / 2, source->height() / 2, 1, 1}, out);
        decode(damaged, "damaged", limits);
      } catch (const Error& e) {
        CHECK(e.code() == ExitCode::data);
      }
    }
}
