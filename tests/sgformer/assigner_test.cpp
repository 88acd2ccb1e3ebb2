// The assigner against its rules taken literally, over a whole matrix of IoUs.
#include "sgformer/detect/assigner.h"

#include <doctest/doctest.h>

#include "sgformer/detect/anchors.h"
#include "tests/sgformer/boxes.h"
#include "tests/support/simd_targets.h"

using namespace sg;
using sgformer::AssignerSettings, sgformer::Assignment, sgformer::assign;
template <class T>
using Boxes = std::vector<sgformer::Box<T>>;

namespace {

template <class T>
Assignment<T> literal(const Boxes<T>& boxes, const Boxes<T>& objects, const AssignerSettings& s,
                      const std::vector<uint8_t>& valid) {
  const size_t n = boxes.size(), g = objects.size();
  Assignment<T> result{std::vector<int32_t>(n, -1), std::vector<T>(n)};
  std::vector<std::vector<T>> iou(g, std::vector<T>(n));
  for (size_t i = 0; i < n; ++i) {
    if (!valid.empty() && !valid[i]) continue;
    size_t best = 0;
    for (size_t k = 0; k < g; ++k) {
      iou[k][i] = sgformer::iou(boxes[i], objects[k]);
      if (iou[k][i] > iou[best][i]) best = k;
    }
    const T most = g ? iou[best][i] : T(0);
    result.max_iou[i] = most;
    if (g == 0 || most < T(s.negative))
      result.assigned[i] = 0;
    else if (most >= T(s.positive))
      result.assigned[i] = int32_t(best) + 1;
  }
  for (size_t k = 0; s.low_quality && n > 0 && k < g; ++k) {
    const T most = *std::max_element(iou[k].begin(), iou[k].end());
    for (size_t i = 0; i < n; ++i)
      if (most >= T(s.min_positive) && iou[k][i] == most && (valid.empty() || valid[i]))
        result.assigned[i] = int32_t(k) + 1;
  }
  return result;
}

template <class T>
void compare(const Boxes<T>& boxes, const Boxes<T>& objects, const AssignerSettings& settings,
             const std::vector<uint8_t>& valid = {}) {
  const auto expected = literal(boxes, objects, settings, valid);
  const auto found = assign<T>(boxes, objects, settings, valid);
  REQUIRE(found.assigned == expected.assigned);
  REQUIRE(found.max_iou == expected.max_iou);
}

template <class T>
void check_random() {
  Random random(8, Purpose::test);
  for (int round = 0; round < 300; ++round) {
    const int64_t side = random.integer(1, 12), n = random.integer(0, 200);
    const auto boxes = round % 3 ? test::tied_boxes<T>(n, side, random)
                                 : test::any_boxes<T>(n, double(side), random);
    const auto objects = test::tied_boxes<T>(random.integer(0, 20), side, random);
    std::vector<uint8_t> valid;
    if (random.bernoulli(0.5))
      for (int64_t i = 0; i < n; ++i) valid.push_back(random.bernoulli(0.8));
    const AssignerSettings settings[] = {{0.75, 0.25, 0.25, true}, {0.5, 0.5, 0.5, true},
                                         {0.5, 0.5, 0.5, false},   {0.5, 0.25, 0, true},
                                         {0, 0, 0, true},          sgformer::kRpnAssigner};
    compare(boxes, objects, settings[round % 6], valid);
  }
}

}  // namespace

TEST_CASE("the assigner: random boxes and objects with many ties") {
  test::for_each_target([] {
    check_random<float>();
    check_random<double>();
  });
}

TEST_CASE("the assigner: anchors of a pyramid, of which part is padding") {
  Random random(9, Purpose::test);
  const std::vector<ImageSize> sizes{{25, 38}, {13, 19}, {7, 10}, {4, 5}, {2, 3}};
  const sgformer::Anchors<float> anchors({}, sizes);
  for (int round = 0; round < 8; ++round) {
    const auto objects = round % 2 ? test::tied_boxes<float>(20, 90, random)
                                   : test::any_boxes<float>(20, 150, random);
    compare(anchors.boxes(), objects, sgformer::kRpnAssigner, anchors.valid({100, 120}));
  }
}

TEST_CASE("the assigner: an object gets all boxes that tie, the last object wins a box") {
  const Boxes<float> boxes{{0, 0, 4, 4}, {8, 0, 12, 4}, {100, 0, 104, 4}};
  const Boxes<float> objects{{0, 0, 12, 4}, {2, 0, 10, 4}, {8, 0, 16, 4}};
  // Of the first two boxes object 0 has 1/3 each, object 1 has 1/5 each; of the second, 2 has 1/2.
  CHECK(assign<float>(boxes, objects, {0.7, 0.3, 0.3, true}).assigned ==
        std::vector<int32_t>{1, 3, 0});
  CHECK(assign<float>(boxes, objects, {0.7, 0.3, 0.2, true}).assigned ==
        std::vector<int32_t>{2, 3, 0});
  CHECK(assign<float>(boxes, objects, {0.7, 0.3, 0.3, false}).assigned ==
        std::vector<int32_t>{-1, -1, 0});
  CHECK(assign<float>(boxes, {}, {0.7, 0.3, 0.3, true}).assigned == std::vector<int32_t>(3, 0));
}

TEST_CASE("the assigner refuses bytes of other boxes") {
  const Boxes<float> boxes(2);
  const std::vector<uint8_t> valid(3, 1);
  CHECK_THROWS_WITH_AS(assign<float>(boxes, {}, sgformer::kRpnAssigner, valid),
                       "assign: 2 boxes, 3 bytes of valid", Error);
}
