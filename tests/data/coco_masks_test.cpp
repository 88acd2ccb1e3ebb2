// Masks of COCO's form beside the same by the plainest means: a pixel, or a point, at a time.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/rng.h"
#include "data/coco/paste_mask.h"
#include "data/coco/segmentation.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;
using test::contains;
using test::error_of;

namespace {

using Pixels = std::vector<uint8_t>;  // row-major

Pixels pixels_of(const RleMask& m) {
  Pixels p(size_t(m.height) * size_t(m.width));
  rle_to_pixels(m, p.data());
  return p;
}

Pixels random_pixels(int height, int width, Random& random) {
  Pixels p(size_t(height) * size_t(width));
  const double share = random.uniform();
  for (uint8_t& v : p) v = random.bernoulli(share);
  return p;
}

// COCO's rule word by word: all points of all edges, a fifth of a pixel apart, in the order of
// travel; each change of column toggles the pixels from there on.
Pixels walked(const std::vector<Vertex>& polygon, int height, int width) {
  std::vector<std::array<int, 2>> points;
  for (size_t i = 0; i < polygon.size(); ++i) {
    Vertex a = polygon[i], b = polygon[(i + 1) % polygon.size()];
    const int dx = std::abs(b[0] - a[0]), dy = std::abs(b[1] - a[1]);
    if (dx == 0 && dy == 0) {
      points.push_back({a[0], 0});  // begins no boundary: x is that of its neighbours
      continue;
    }
    const bool flip = (dx >= dy && a[0] > b[0]) || (dx < dy && a[1] > b[1]);
    if (flip) std::swap(a, b);
    const double slope = dx >= dy ? double(b[1] - a[1]) / dx : double(b[0] - a[0]) / dy;
    const int n = std::max(dx, dy);
    for (int d = 0; d <= n; ++d) {
      const int t = flip ? n - d : d;
      if (dx >= dy)
        points.push_back({t + a[0], int(a[1] + slope * t + .5)});
      else
        points.push_back({int(a[0] + slope * t + .5), t + a[1]});
    }
  }
  std::map<int64_t, int> toggles;
  for (size_t j = 1; j < points.size(); ++j) {
    const auto [u, v] = points[j];
    const auto [pu, pv] = points[j - 1];
    if (u == pu) continue;
    const double x = (double(u < pu ? u : u - 1) + .5) / 5 - .5;
    if (std::floor(x) != x || x < 0 || x > width - 1) continue;
    const double y =
        std::ceil(std::clamp((double(std::min(v, pv)) + .5) / 5 - .5, 0., double(height)));
    ++toggles[int64_t(x) * height + int64_t(y)];
  }
  Pixels p(size_t(height) * size_t(width));
  bool inside = false;
  for (int64_t at = 0; at < int64_t{height} * width; ++at) {
    if (toggles.contains(at) && toggles[at] % 2) inside = !inside;
    p[size_t(at % height * width + at / height)] = inside;
  }
  return p;
}

CocoSegmentation polygons(const std::vector<std::vector<double>>& lists) {
  std::vector<double> numbers;
  std::vector<size_t> ends;
  for (const auto& list : lists) {
    numbers.insert(numbers.end(), list.begin(), list.end());
    ends.push_back(numbers.size());
  }
  return {numbers, ends};
}

}  // namespace

TEST_CASE("coco masks: polygons by the rule, a point at a time") {
  Random random(1, Purpose::test);
  for (int i = 0; i < 3000; ++i) {
    const int height = int(random.integer(1, 40)), width = int(random.integer(1, 40));
    // Small ones, and such as reach far beyond the image on all sides.
    const int64_t reach = i % 3 ? 60 : 400;
    std::vector<Vertex> polygon(size_t(random.integer(1, 8)));
    for (Vertex& v : polygon)
      v = {int32_t(random.integer(-reach, 200 + reach)),
           int32_t(random.integer(-reach, 200 + reach))};
    if (i % 4 == 0) polygon.push_back(polygon.back());  // a vertex twice
    CAPTURE(i);
    REQUIRE(pixels_of(rasterize(polygon, height, width)) == walked(polygon, height, width));
  }
}

TEST_CASE("coco masks: an edge of any length costs no more than the image is wide") {
  const double far = 9e7;
  const RleMask m = polygons({{-far, -far, far, -far, far, far, -far, far}}).mask(3, 4);
  CHECK(m.counts == std::vector<uint32_t>{0, 12});
  CHECK(contains(error_of(ExitCode::data,
                          [] {
                            polygons({{0, 0, 1e9, 0, 0, 5}});
                          }),
                 "1e+08 pixels, found 1000000000"));
}

TEST_CASE("coco masks: segmentations pass through their compact form") {
  Random random(2, Purpose::test);
  for (int i = 0; i < 100; ++i) {
    std::vector<std::vector<double>> lists(size_t(random.integer(0, 4)));
    for (auto& list : lists)
      for (int64_t n = 2 * random.integer(3, 9); n > 0; --n)
        list.push_back(random.uniform(-1e4, 1e4) / double(random.integer(1, 100)));
    const CocoSegmentation s = polygons(lists);
    std::vector<uint8_t> bytes;
    s.append_to(bytes);
    REQUIRE(CocoSegmentation::read(bytes).mask(50, 70) == s.mask(50, 70));
  }
  const RleMask rle{3, 5, {2, 7, 6}};
  std::vector<uint8_t> bytes;
  CocoSegmentation(rle).append_to(bytes);
  CHECK(CocoSegmentation::read(bytes).rle() == rle);
  CHECK(contains(error_of(ExitCode::data, [&] { CocoSegmentation(rle).mask(5, 3); }),
                 "expected an RLE of 5 x 3 (height x width), the size of its image, found 3 x 5"));
}

TEST_CASE("coco masks: pixels, runs and strings") {
  Random random(3, Purpose::test);
  for (int i = 0; i < 300; ++i) {
    const int height = int(random.integer(1, 150)), width = int(random.integer(1, 150));
    const Pixels a = random_pixels(height, width, random), b = random_pixels(height, width, random);
    const RleMask rle = rle_from_pixels(a.data(), height, width);
    const RleMask other = rle_from_pixels(b.data(), height, width);
    CHECK_NOTHROW(check_rle(rle));
    REQUIRE(pixels_of(rle) == a);
    REQUIRE(rle_from_string(rle_to_string(rle), height, width) == rle);
    Pixels columns(a.size()), both(a.size()), either(a.size());
    rle_to_columns(rle, columns.data());
    int64_t area = 0, shared = 0;
    int left = width, top = height, right = -1, bottom = -1;
    bool same = true;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const auto p = size_t(y * width + x);
        same &= columns[size_t(x * height + y)] == a[p];
        area += a[p], shared += a[p] && b[p];
        both[p] = a[p] && b[p], either[p] = a[p] || b[p];
        if (!a[p]) continue;
        left = std::min(left, x), right = std::max(right, x);
        top = std::min(top, y), bottom = std::max(bottom, y);
      }
    REQUIRE(same);
    REQUIRE(rle.area() == area);
    REQUIRE(rle.box() == (area ? CocoBox{double(left), double(top), double(right - left + 1),
                                         double(bottom - top + 1)}
                               : CocoBox{}));
    REQUIRE(intersection_area(rle, other) == shared);
    REQUIRE(rle_intersection(rle, other) == rle_from_pixels(both.data(), height, width));
    REQUIRE(rle_union(rle, other) == rle_from_pixels(either.data(), height, width));
    const MeasuredMask m(rle), o(other);
    const double of_both = double(m.area + o.area - shared);
    CHECK(mask_iou(m, o, false) == (shared ? double(shared) / of_both : 0));
    CHECK(mask_iou(m, o, true) == (shared ? double(shared) / double(m.area) : 0));
  }
}

TEST_CASE("coco masks: rows and columns gathered") {
  Random random(5, Purpose::test);
  for (int i = 0; i < 200; ++i) {
    const int height = int(random.integer(1, 40)), width = int(random.integer(1, 40));
    const Pixels a = random_pixels(height, width, random);
    std::vector<int> rows(size_t(random.integer(1, 60))), columns(size_t(random.integer(1, 60)));
    for (int& y : rows) y = int(random.integer(0, height - 1));
    for (int& x : columns) x = int(random.integer(0, width - 1));
    std::ranges::sort(rows);
    Pixels expected;
    for (const int y : rows)
      for (const int x : columns) expected.push_back(a[size_t(y * width + x)]);
    CAPTURE(i);
    const RleMask found = rle_gather(rle_from_pixels(a.data(), height, width), rows, columns);
    REQUIRE(found == rle_from_pixels(expected.data(), int(rows.size()), int(columns.size())));
  }
}

TEST_CASE("coco masks: runs that are empty, as files may have them") {
  const RleMask rle{2, 3, {0, 0, 1, 0, 0, 3, 2, 0}};
  CHECK(pixels_of(rle) == Pixels{0, 1, 0, 1, 1, 0});
  CHECK(rle.box() == CocoBox{0, 0, 2, 2});
  CHECK(rle_union(rle, rle).counts == std::vector<uint32_t>{1, 3, 2});
  CHECK(rle_from_string(rle_to_string(rle), 2, 3) == rle);
}

TEST_CASE("coco masks: strings that are none are refused") {
  const auto error = [](std::string_view text) {
    return error_of(ExitCode::data, [&] { rle_from_string(text, 12, 9); });
  };
  CHECK_NOTHROW(rle_from_string("\\3", 12, 9));
  CHECK(contains(error("\\"), "ends within a number"));
  CHECK(contains(error("oooooooooo1"), "beyond 32 bits"));
  CHECK(contains(error("\\3 "), "found code 32 at 2"));
  CHECK(contains(error("11O"), "count 2 of the string is -1, expected 0 to 2^31"));
  CHECK(contains(error("@"), "count 0 of the string is -16"));
  CHECK(contains(error("1"), "expected counts that add up to 12 x 9 pixels, found a sum of 1"));
  CHECK(contains(error_of(ExitCode::data, [] { rle_from_string("0", 0, 9); }), "found 0 x 9"));
}

TEST_CASE("coco masks: lists of boxes") {
  CHECK(polygons({{1, 2, 3, 2}}).mask(6, 6).box() == CocoBox{1, 2, 3, 2});
  CHECK(polygons({{1, 2, 3, 2}, {0, 0, 1, 1}}).mask(6, 6).area() == 7);
  CHECK(contains(error_of(ExitCode::data,
                          [] {
                            polygons({{1, 2, 3, 2}, {0, 0, 5, 0, 5, 5}});
                          }),
                 "expected boxes of 4 numbers, as the first list is one, found 6"));
}

TEST_CASE("coco masks: pasting is bilinear between the centres of cells, and 0 beyond") {
  Random random(4, Purpose::test);
  for (int i = 0; i < 200; ++i) {
    const int height = int(random.integer(1, 60)), width = int(random.integer(1, 60));
    const int side = i % 2 ? 28 : int(random.integer(1, 9));
    std::vector<float> map(size_t(side * side));
    for (float& v : map) v = float(random.uniform());
    const double x1 = random.uniform(-30, 60), y1 = random.uniform(-30, 60);
    const std::array<double, 4> box{x1, y1, x1 + random.uniform(0.001, 80),
                                    y1 + random.uniform(0.001, 80)};
    Pixels expected;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const double u = (x + .5 - box[0]) / (box[2] - box[0]) * side - .5;
        const double v = (y + .5 - box[1]) / (box[3] - box[1]) * side - .5;
        double sum = 0;
        for (const double row : {std::floor(v), std::floor(v) + 1})
          for (const double column : {std::floor(u), std::floor(u) + 1})
            if (row >= 0 && row < side && column >= 0 && column < side)
              sum += map[size_t(row * side + column)] * (1 - std::abs(v - row)) *
                     (1 - std::abs(u - column));
        expected.push_back(sum >= .5);
      }
    CAPTURE(i);
    REQUIRE(pixels_of(paste_mask<float>(map, box, height, width)) == expected);
  }
}

TEST_CASE("coco masks: nothing is pasted of a box that is none") {
  const std::vector<float> ones(28 * 28, 1.f);
  for (const std::array<double, 4>& box : {std::array<double, 4>{3, 3, 3, 9},
                                           {5, 3, 4, 9},
                                           {NAN, 0, 5, 5},
                                           {0, 0, INFINITY, 5},
                                           {90, 0, 99, 5}})
    CHECK(paste_mask<float>(ones, box, 10, 10).counts == std::vector<uint32_t>{100});
  CHECK(paste_mask<float>(ones, {-1e9, -1e9, 1e9, 1e9}, 10, 10).area() == 100);
}
