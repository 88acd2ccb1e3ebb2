// Anchors, the box coder, IoU, clipping and the maps of proposals.
#include <doctest/doctest.h>

#include <limits>

#include "sgformer/detect/anchors.h"
#include "sgformer/detect/box_coder.h"
#include "sgformer/detect/proposals.h"
#include "tests/sgformer/boxes.h"

using namespace sg;
using sgformer::AnchorSettings, sgformer::Anchors, sgformer::BoxCoder;
using BoxF = sgformer::Box<float>;
using BoxD = sgformer::Box<double>;

TEST_CASE("anchors lie around the corners of cells, in the order of the maps") {
  const AnchorSettings settings{.strides = {4, 8}, .ratios = {0.25, 1}, .scale = 8};
  const Anchors<double> anchors(settings, {{2, 3}, {1, 2}});
  REQUIRE(anchors.boxes().size() == 2 * 3 * 2 + 1 * 2 * 2);
  CHECK(anchors.boxes()[0] == BoxD{-32, -8, 32, 8});
  CHECK(anchors.boxes()[1] == BoxD{-16, -16, 16, 16});
  CHECK(anchors.boxes()[2 * 4 + 1] == BoxD{4 - 16, 4 - 16, 4 + 16, 4 + 16});  // cell (1, 1)
  CHECK(anchors.level(1)[3] == BoxD{8 - 32, -32, 8 + 32, 32});
  CHECK_THROWS_WITH_AS(Anchors<float>(settings, {{2, 3}}),
                       "anchors: expected 2 maps, one a stride, found 1", Error);
}

TEST_CASE("anchors of cells beyond an image are not valid") {
  const AnchorSettings settings{.strides = {4, 8}, .ratios = {1}};
  const Anchors<float> anchors(settings, {{2, 3}, {1, 2}});
  CHECK(anchors.valid({8, 12}) == std::vector<uint8_t>(8, 1));
  CHECK(anchors.valid({100, 100}) == std::vector<uint8_t>(8, 1));
  // 1 x 2 cells of 4 pixels, the second of them begun; 1 x 1 of 8.
  CHECK(anchors.valid({4, 5}) == std::vector<uint8_t>{1, 1, 0, 0, 0, 0, 1, 0});
}

TEST_CASE("a delta is shift in sides and logarithm of growth, normalized") {
  const BoxCoder coder{{0.5, 0, 0, 1}, {0.1, 0.5, 2, 1}};
  const BoxD proposal{10, 20, 20, 40}, target{12, 10, 22, 50};  // moved 2 right, twice as high
  const auto delta = coder.encode(proposal, target);
  CHECK(delta.dx == doctest::Approx((0.2 - 0.5) / 0.1));
  CHECK(delta.dy == 0);
  CHECK(delta.dw == 0);
  CHECK(delta.dh == doctest::Approx(std::log(2) - 1));
}

TEST_CASE("decoding undoes encoding") {
  Random random(3, Purpose::test);
  const BoxCoder coder{{0.1, -0.2, 0, 0.3}, {0.1, 0.1, 0.2, 0.2}};
  for (int i = 0; i < 1000; ++i) {
    const auto centre = [&] { return random.uniform(0, 100); };
    const auto box = [&](double x, double y) {
      return BoxD{x, y, x + random.uniform(10, 60), y + random.uniform(10, 60)};
    };
    const BoxD a = box(centre(), centre()), b = box(centre(), centre());
    const BoxD found = coder.decode(a, coder.encode(a, b));
    for (const double error : {found.x1 - b.x1, found.y1 - b.y1, found.x2 - b.x2, found.y2 - b.y2})
      REQUIRE(std::abs(error) < 1e-12);
  }
}

TEST_CASE("decoded sides are limited") {
  const BoxD box = BoxCoder().decode(BoxD{0, 0, 16, 16}, {0, 0, 50, -50});
  CHECK(box.width() == doctest::Approx(1000));
  CHECK(box.height() == doctest::Approx(0.256));
}

TEST_CASE("IoU") {
  CHECK(iou(BoxD{0, 0, 4, 4}, BoxD{2, 0, 6, 4}) == 8.0 / 24);
  CHECK(iou(BoxD{0, 0, 4, 4}, BoxD{4, 0, 8, 4}) == 0);  // they touch
  CHECK(iou(BoxD{0, 0, 4, 4}, BoxD{6, 6, 8, 8}) == 0);  // apart in both directions
  CHECK(iou(BoxD{1, 1, 1, 1}, BoxD{1, 1, 1, 1}) == 0);  // 0 / 0
}

TEST_CASE("clipping ends in the image, whatever the numbers") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  CHECK(clip(BoxF{-3, 2, 50, 7}, {10, 20}) == BoxF{0, 2, 20, 7});
  CHECK(clip(BoxF{-inf, nan, inf, nan}, {10, 20}) == BoxF{0, 0, 20, 0});
}

TEST_CASE("a box is looked up in a map that is as much coarser as it is larger") {
  const auto level = [](float side) { return roi_level(BoxF{3, 5, 3 + side, 5 + side}); };
  for (const auto& [side, expected] : {std::pair{1.f, 0},
                                       {111.f, 0},
                                       {112.f, 1},
                                       {223.f, 1},
                                       {224.f, 2},
                                       {447.f, 2},
                                       {448.f, 3},
                                       {5000.f, 3},
                                       {0.f, 0},
                                       {std::nanf(""), 0}}) {
    CAPTURE(side);
    CHECK(level(side) == expected);
  }
  CHECK(roi_level(BoxF{0, 0, 28, 448}) == 1);  // the geometric mean is 112
}
