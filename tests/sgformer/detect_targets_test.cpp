// Proposals and targets of an image: what golden files do not have.
#include "sgformer/detect/targets.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/cpu/parallel.h"
#include "sgformer/detect/detections.h"
#include "sgformer/detect/proposals.h"
#include "tests/sgformer/boxes.h"

using namespace sg;
using sgformer::Anchors, sgformer::RoiTargets, sgformer::RpnTargets, sgformer::TargetDraw;
using BoxF = sgformer::Box<float>;
using Boxes = std::vector<BoxF>;

namespace {

const std::vector<ImageSize> kSizes{{40, 50}, {20, 25}, {10, 13}, {5, 7}, {3, 4}};
const ImageSize kImage(160, 200);

}  // namespace

TEST_CASE("targets of anchors: as assigned, none in the padding") {
  const Anchors<float> anchors({}, kSizes);
  const ImageSize padded(96, 128);
  const Boxes objects{{10, 10, 60, 60}, {80, 20, 125, 90}, {30, 50, 70, 80}};
  const RpnTargets t = rpn_targets<float>(anchors, padded, objects, {1, 2, 3});
  const auto assigned =
      assign<float>(anchors.boxes(), objects, sgformer::kRpnAssigner, anchors.valid(padded));
  CHECK(t.positive.size() + t.negative.size() == 256);
  REQUIRE(t.positive.size() == t.positive_object.size());
  REQUIRE(!t.positive.empty());
  for (size_t i = 0; i < t.positive.size(); ++i)
    CHECK(assigned.assigned[size_t(t.positive[i])] == t.positive_object[i] + 1);
  const auto valid = anchors.valid(padded);
  for (const int32_t i : t.negative) {
    CHECK(valid[size_t(i)] == 1);
    CHECK(assigned.assigned[size_t(i)] == 0);
  }
}

TEST_CASE("targets of anchors: without objects all are negative") {
  const Anchors<float> anchors({}, kSizes);
  const RpnTargets t = rpn_targets<float>(anchors, kImage, {}, {1, 2, 3});
  CHECK(t.positive.empty());
  CHECK(t.negative.size() == 256);
}

TEST_CASE("targets of proposals: objects are among them, positive ones first") {
  Random random(4, Purpose::test);
  const Boxes objects{{10, 10, 60, 60}, {80, 20, 150, 90}, {5, 100, 40, 150}};
  const std::vector<int32_t> labels{7, 0, 79};
  Boxes proposals = test::any_boxes<float>(900, 160, random);
  for (const BoxF& o : objects)  // some that overlap an object
    for (int i = 0; i < 20; ++i) {
      const auto near = [&](float v) { return v + float(random.uniform(-4, 4)); };
      proposals.push_back({near(o.x1), near(o.y1), near(o.x2), near(o.y2)});
    }
  const auto t = sgformer::roi_targets<float>(proposals, objects, labels, 80, {1, 2, 3});
  REQUIRE(t.proposals.size() == 512);
  REQUIRE(t.labels.size() == 512);
  const size_t positives = t.objects.size();
  CHECK(positives >= 63);  // of which none had to be left out
  CHECK(positives <= 128);
  REQUIRE(t.targets.size() == positives);
  CHECK(Boxes(t.proposals.begin(), t.proposals.begin() + 3) == objects);
  for (size_t i = 0; i < 512; ++i) {
    float most = 0;
    for (const BoxF& o : objects) most = std::max(most, iou(t.proposals[i], o));
    if (i < positives) {
      const auto k = size_t(t.objects[i]);
      CHECK(t.labels[i] == labels[k]);
      CHECK(most >= 0.5f);
      CHECK(t.targets[i] == sgformer::kRoiCoder.encode(t.proposals[i], objects[k]));
    } else {
      CHECK(t.labels[i] == 80);
      CHECK(most < 0.5f);
    }
  }
  CHECK(t.targets[0] == sgformer::BoxDelta<float>{0, 0, 0, 0});
}

TEST_CASE("targets of proposals: more positive ones than there is room for; few; none") {
  const Boxes objects{{10, 10, 60, 60}};
  const std::vector<int32_t> labels{7};
  const Boxes good(1000, {10, 10, 60, 59}), bad(1000, {100, 100, 120, 120});
  auto t = sgformer::roi_targets<float>(good, objects, labels, 80, {1, 2, 3});
  CHECK(t.objects.size() == 128);
  CHECK(t.proposals.size() == 128);
  t = sgformer::roi_targets<float>(bad, objects, labels, 80, {1, 2, 3});
  CHECK(t.objects.size() == 1);  // itself
  CHECK(t.proposals.size() == 512);
  t = sgformer::roi_targets<float>(bad, {}, {}, 80, {1, 2, 3});
  CHECK(t.objects.empty());
  CHECK(t.proposals.size() == 512);
  t = sgformer::roi_targets<float>({}, {}, {}, 80, {1, 2, 3});
  CHECK(t.proposals.empty());
  CHECK_THROWS_WITH_AS(
      sgformer::roi_targets<float>(bad, objects, std::vector<int32_t>{80}, 80, {1, 2, 3}),
      "roi targets: labels: expected 0 to 79, found 80", Error);
  CHECK_THROWS_AS(sgformer::roi_targets<float>(bad, objects, {}, 80, {1, 2, 3}), Error);
}

TEST_CASE("targets differ from step to step and image to image, and not by threads") {
  const Anchors<float> anchors({}, kSizes);
  Random random(5, Purpose::test);
  const Boxes objects = test::any_boxes<float>(6, 150, random);
  const auto of = [&](const TargetDraw& draw) {
    return rpn_targets<float>(anchors, kImage, objects, draw).negative;
  };
  const auto first = of({1, 2, 3});
  CHECK(first == of({1, 2, 3}));
  for (const TargetDraw& other : {TargetDraw{2, 2, 3}, {1, 3, 3}, {1, 2, 4}})
    CHECK(first != of(other));
  std::vector<std::vector<int32_t>> alone(16), shared(16);
  for (size_t i = 0; i < 16; ++i) alone[i] = of({1, 2, i});
  parallel_for(16, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) shared[size_t(i)] = of({1, 2, uint64_t(i)});
  });
  CHECK(alone == shared);
}

TEST_CASE("proposals and detections of a network that diverged are boxes in the image") {
  const Anchors<float> anchors({}, kSizes);
  const float nan = std::nanf("");
  std::vector<sgformer::RpnLevel<float>> levels;
  const std::vector<float> logits(anchors.boxes().size(), nan);
  const std::vector<sgformer::BoxDelta<float>> deltas(logits.size(), {nan, nan, nan, nan});
  for (size_t l = 0; l < anchors.levels(); ++l) {
    const size_t n = anchors.level(l).size();
    levels.push_back({std::span(logits).first(n), std::span(deltas).first(n)});
  }
  const auto p = rpn_proposals<float>(anchors, levels, kImage, sgformer::kTrainProposals);
  CHECK(p.boxes.size() == 1000);
  for (const BoxF& box : p.boxes) CHECK(box == BoxF{0, 0, 0, 0});
  const auto d = sgformer::detections<float>(p.boxes, std::span(logits).first(3000),
                                             std::span(deltas).first(2000), 2, kImage, kImage, {});
  CHECK(d.boxes.empty());
}

TEST_CASE("proposals and detections refuse what does not fit") {
  const Anchors<float> anchors({}, kSizes);
  const std::vector<sgformer::RpnLevel<float>> none(5);
  CHECK_THROWS_AS(
      rpn_proposals<float>(anchors, std::span(none).first(4), kImage, sgformer::kTrainProposals),
      Error);
  CHECK_THROWS_WITH_AS(rpn_proposals<float>(anchors, none, kImage, sgformer::kTrainProposals),
                       "proposals: level 0: 6000 anchors, 0 logits and 0 deltas", Error);
  const Boxes boxes(2);
  CHECK_THROWS_AS(
      sgformer::detections<float>(boxes, std::vector<float>(5), {}, 2, kImage, kImage, {}), Error);
}
