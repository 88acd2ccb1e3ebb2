#include "data/resize.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/rng.h"
#include "io/safetensors.h"
#include "tests/support/files.h"
#include "tests/support/simd_targets.h"

using namespace sg;
using namespace sg::data;

namespace {

ImageView view_of(const Tensor& t) {
  return {t.data<uint8_t>(), int(t.dim(0)), int(t.dim(1)), size_t(t.dim(1)) * 3};
}

Image noise(int height, int width) {
  Random random(1, Purpose::test, uint64_t(height), uint64_t(width));
  Image image;
  image.reset(height, width);
  for (auto& p : image.pixels) p = uint8_t(random.u32());
  return image;
}

Image resized(const ImageView& source, const Resize& r) {
  Image out;
  out.reset(r.window.height, r.window.width);
  Resizer()(source, r, out.pixels.data());
  return out;
}

}  // namespace

TEST_CASE("golden: every resize and cropped resize, byte for byte") {
  const std::filesystem::path golden = test::shared("golden/augment/augment.safetensors");
  if (golden.empty()) return;
  const auto file = Safetensors::open(golden);
  int cases = 0;
  for (const auto& [name, text] : file.metadata()) {
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) continue;
    const std::string op = json.value("op", "");
    if (op != "Resize" && op != "CropResize") continue;
    CAPTURE(name);
    CAPTURE(text);
    const Tensor input = file.tensor("input." + std::to_string(json.at("input").get<int>()));
    const Tensor expected = file.tensor(name);
    ImageView source = view_of(input);
    if (op == "CropResize")
      source = source.crop({json.at("left"), json.at("top"), json.at("width"), json.at("height")});
    const Filter filter = json.at("filter") == "bicubic" ? Filter::bicubic : Filter::bilinear;
    test::for_each_target([&] {
      const Image result =
          resized(source, Resize::whole(int(expected.dim(0)), int(expected.dim(1)), filter));
      CHECK(result.pixels == to_vector<uint8_t>(expected));
    });
    ++cases;
  }
  CHECK(cases > 0);
}

TEST_CASE("a window is the same pixels as the whole image cropped, also from its source box") {
  for (const Filter filter : {Filter::bilinear, Filter::bicubic})
    for (const auto& [h, w, oh, ow] :
         {std::array{50, 41, 23, 17}, {9, 7, 31, 44}, {64, 64, 64, 64}, {3, 200, 11, 20}}) {
      const Image source = noise(h, w);
      const Image all = resized(source.view(), Resize::whole(oh, ow, filter));
      const Resize part{oh, ow, {ow / 3, oh / 4, ow / 2, oh / 2}, filter};
      const Image window = resized(source.view(), part);
      const Box used = source_box(h, w, part);
      Image elsewhere = noise(h, w);  // other pixels outside of the source box
      for (auto& p : elsewhere.pixels) p = uint8_t(~p);
      for (int y = used.top; y < used.bottom(); ++y)
        std::copy_n(source.row(y) + used.left * 3, used.width * 3,
                    elsewhere.row(y) + used.left * 3);
      CHECK(resized(elsewhere.view(), part).pixels == window.pixels);
      bool same = true;
      for (int y = 0; y < oh / 2; ++y)
        same &=
            std::equal(window.row(y), window.row(y) + ow / 2 * 3, all.row(y + oh / 4) + ow / 3 * 3);
      CHECK(same);
    }
}

TEST_CASE("flip mirrors the result, and the same size copies") {
  const Image source = noise(20, 13);
  for (const Filter filter : {Filter::bilinear, Filter::bicubic}) {
    CHECK(resized(source.view(), Resize::whole(20, 13, filter)).pixels == source.pixels);
    const Image plain = resized(source.view(), Resize::whole(15, 18, filter));
    const Image flipped = resized(source.view(), Resize::whole(15, 18, filter, true));
    bool mirrored = true;
    for (int y = 0; y < 15; ++y)
      for (int x = 0; x < 18 * 3; ++x)
        mirrored &= flipped.row(y)[x] == plain.row(y)[(17 - x / 3) * 3 + x % 3];
    CHECK(mirrored);
  }
}

TEST_CASE("a checkerboard of single pixels shrinks to grey") {
  Image board;
  board.reset(128, 128);
  for (int y = 0; y < 128; ++y)
    for (int x = 0; x < 128 * 3; ++x) board.row(y)[x] = (x / 3 + y) % 2 ? 255 : 0;
  for (const Filter filter : {Filter::bilinear, Filter::bicubic}) {
    const Image small = resized(board.view(), Resize::whole(37, 37, filter));
    // The border sees part of the filter only; inside, antialiasing leaves a few levels.
    for (int y = 4; y < 33; ++y)
      for (int x = 4 * 3; x < 33 * 3; ++x) CHECK(std::abs(small.row(y)[x] - 127.5) < 4);
  }
}

TEST_CASE("all sizes from one pixel up stay within their memory and keep a constant") {
  for (const Filter filter : {Filter::bilinear, Filter::bicubic})
    for (int in : {1, 2, 3, 5, 8, 30})
      for (int out : {1, 2, 3, 4, 5, 6, 7, 30}) {
        Image flat;
        flat.reset(in, in);
        std::fill(flat.pixels.begin(), flat.pixels.end(), uint8_t(201));
        test::for_each_target([&] {
          const Image result = resized(flat.view(), Resize::whole(out, out, filter));
          CHECK(std::count(result.pixels.begin(), result.pixels.end(), 201) == out * out * 3);
        });
      }
}

TEST_CASE("all instruction sets make the same bytes, of a few taps or many, near or far") {
  for (const Filter filter : {Filter::bilinear, Filter::bicubic})
    for (const auto& [h, w, oh, ow] : {std::array{41, 50, 23, 224},
                                       {90, 130, 64, 64},
                                       {70, 301, 40, 97},
                                       {99, 400, 7, 98},
                                       {300, 700, 11, 70}})
      for (const bool flip : {false, true}) {
        const Image source = noise(h, w);
        const Resize r = Resize::whole(oh, ow, filter, flip);
        std::vector<uint8_t> first;
        test::for_each_target([&, &oh = oh] {
          std::vector<uint8_t> pixels = resized(source.view(), r).pixels;
          if (first.empty()) first = pixels;
          CHECK_MESSAGE(pixels == first, oh);
        });
      }
}

TEST_CASE("a window outside the result is refused") {
  const Image source = noise(4, 4);
  Resize r = Resize::whole(8, 8, Filter::bilinear);
  r.window.left = 1;
  test::error_of(ExitCode::failure, [&] { resized(source.view(), r); });
}
