// NMS and the order of scores against what they say, on many small cases full of ties.
#include "sgformer/detect/nms.h"

#include <doctest/doctest.h>

#include <numeric>

#include "sgformer/detect/scores.h"
#include "tests/sgformer/boxes.h"
#include "tests/support/simd_targets.h"

using namespace sg;
using sgformer::nms, sgformer::top_scores;
template <class T>
using Boxes = std::vector<sgformer::Box<T>>;

namespace {

template <class T>
std::vector<int32_t> literal_order(const std::vector<T>& scores) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return scores[size_t(a)] > scores[size_t(b)]; });
  return order;
}

template <class T>
std::vector<int32_t> literal_nms(const Boxes<T>& boxes, const std::vector<T>& scores,
                                 const std::vector<int32_t>& groups, T threshold) {
  std::vector<int32_t> keep;
  for (const int32_t i : literal_order(scores)) {
    const auto suppresses = [&](int32_t j) {
      if (!groups.empty() && groups[size_t(i)] != groups[size_t(j)]) return false;
      const auto &a = boxes[size_t(i)], &b = boxes[size_t(j)];
      const T overlap = intersection(a, b);
      return overlap > threshold * (b.area() + a.area() - overlap);
    };
    if (std::none_of(keep.begin(), keep.end(), suppresses)) keep.push_back(i);
  }
  return keep;
}

template <class T>
void check_nms() {
  Random random(5, Purpose::test);
  size_t dropped = 0, in_groups = 0;
  for (int round = 0; round < 300; ++round) {
    const int64_t n = random.integer(0, 150), most_groups = random.integer(0, 9);
    const auto boxes = random.bernoulli(0.5) ? test::tied_boxes<T>(n, random.integer(1, 8), random)
                                             : test::any_boxes<T>(n, 50, random);
    std::vector<T> scores;
    std::vector<int32_t> groups;
    for (int64_t i = 0; i < n; ++i) scores.push_back(T(random.integer(-4, 12)) / 8);
    if (most_groups > 0)
      for (int64_t i = 0; i < n; ++i) groups.push_back(int32_t(random.integer(0, most_groups)));
    const T threshold = std::vector<T>{0, 0.25, 0.5, 0.75, 0.7}[size_t(round % 5)];
    const auto expected = literal_nms<T>(boxes, scores, groups, threshold);
    const auto found = nms<T>(boxes, scores, groups, double(threshold));
    REQUIRE(found == expected);
    dropped += boxes.size() - found.size();
    in_groups += found.size() - nms<T>(boxes, scores, {}, double(threshold)).size();
    const size_t most = size_t(random.integer(0, 30));
    REQUIRE(
        nms<T>(boxes, scores, groups, double(threshold), most) ==
        std::vector(expected.begin(), expected.begin() + int64_t(std::min(most, expected.size()))));
  }
  CHECK(dropped > 1000);
  CHECK(in_groups > 1000);  // groups made a difference
}

}  // namespace

TEST_CASE("NMS takes boxes by score, ties by index, and drops what overlaps within a group") {
  test::for_each_target([] {
    check_nms<float>();
    check_nms<double>();
  });
}

TEST_CASE("NMS: an IoU of the threshold itself does not suppress") {
  const Boxes<float> boxes{{0, 0, 4, 4}, {0, 0, 4, 2}, {0, 0, 4, 2.25}};  // IoU 1/2, and more
  CHECK(nms<float>(boxes, std::vector<float>{3, 2, 1}, {}, 0.5) == std::vector<int32_t>{0, 1});
}

TEST_CASE("NMS: boxes without an area suppress nothing") {
  const Boxes<float> boxes(3, {2, 2, 2, 2});
  CHECK(nms<float>(boxes, std::vector<float>{1, 1, 1}, {}, 0.5).size() == 3);
}

TEST_CASE("NMS refuses what does not fit") {
  const Boxes<float> boxes(2);
  const std::vector<float> scores(2);
  CHECK_THROWS_WITH_AS(nms<float>(boxes, std::vector<float>(1), {}, 0.5),
                       "nms: 2 boxes, 1 scores and 0 groups", Error);
  CHECK_THROWS_AS(nms<float>(boxes, scores, std::vector<int32_t>(1), 0.5), Error);
  for (const int32_t group : {-1, sgformer::kMostGroups})
    CHECK_THROWS_AS(nms<float>(boxes, scores, std::vector<int32_t>{0, group}, 0.5), Error);
}

TEST_CASE_TEMPLATE("the best scores descend, equal ones by index, no number last", T, float,
                   double) {
  Random random(6, Purpose::test);
  for (int round = 0; round < 200; ++round) {
    std::vector<T> scores;
    for (int64_t i = random.integer(0, 200); i > 0; --i)
      scores.push_back(random.bernoulli(0.5) ? T(random.integer(-3, 3)) : T(random.normal()));
    const auto expected = literal_order(scores);
    for (const size_t most : {size_t{0}, scores.size() / 3, scores.size(), scores.size() + 5})
      REQUIRE(top_scores<T>(scores, most) ==
              std::vector(expected.begin(),
                          expected.begin() + int64_t(std::min(most, expected.size()))));
  }
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  CHECK(top_scores<T>(std::vector<T>{nan, -inf, -T(0), 0, -nan, inf}, 6) ==
        std::vector<int32_t>{5, 2, 3, 1, 0, 4});
}

TEST_CASE_TEMPLATE("sigmoid and softmax", T, float, double) {
  // exp is off by 1e-7 in float (core/cpu/simd-inl.h), what follows rounds three times.
  const T bound = sizeof(T) == 4 ? T(4e-7) : T(1e-14);
  test::for_each_target([&] {
    std::vector<T> logits{-200, -20, -1, 0, 0.5, 3, 40, 200}, scores(8);
    for (int i = 0; i < 13; ++i) logits.push_back(T(i) / 3), scores.push_back(0);
    sgformer::sigmoid<T>(logits, scores);
    for (size_t i = 0; i < logits.size(); ++i)
      CHECK(std::abs(scores[i] - 1 / (1 + std::exp(-logits[i]))) <= bound);
    sgformer::softmax<T>(logits, 7, scores);  // 3 rows
    for (size_t row = 0; row < 21; row += 7) {
      T sum = 0;
      const T top = *std::max_element(&logits[row], &logits[row] + 7);
      for (size_t k = row; k < row + 7; ++k) sum += std::exp(logits[k] - top);
      for (size_t k = row; k < row + 7; ++k)
        CHECK(std::abs(scores[k] - std::exp(logits[k] - top) / sum) <= bound);
    }
  });
}
