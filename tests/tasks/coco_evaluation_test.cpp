// COCO's evaluation: small cases by hand, and that nothing depends on order, threads or processes.
// All rules are checked by golden files of pycocotools' numbers (tests/tools/golden_coco_test.cpp).
#include "tasks/coco_evaluation.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "core/cpu/parallel.h"
#include "core/rng.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::tasks;
using data::CocoBox;
using nlohmann::json;
using test::contains;
using test::error_of;

namespace {

json box_json(const CocoBox& b) { return {b.x, b.y, b.width, b.height}; }
json square_json(const CocoBox& b) {
  return {{b.x, b.y, b.x + b.width, b.y, b.x + b.width, b.y + b.height, b.x, b.y + b.height}};
}

struct Truth {
  json j{{"images", json::array()}, {"categories", json::array()}, {"annotations", json::array()}};
  test::TemporaryFolder folder;

  Truth(int images, int classes) {
    for (int i = 1; i <= images; ++i)
      j["images"].push_back({{"id", i}, {"file_name", "a.jpg"}, {"width", 200}, {"height", 200}});
    for (int c = 1; c <= classes; ++c)
      j["categories"].push_back({{"id", c}, {"name", fmt::format("class {}", c)}});
  }
  void add(int image, int category, const CocoBox& box, bool crowd = false) {
    j["annotations"].push_back({{"id", j["annotations"].size() + 1},
                                {"image_id", image},
                                {"category_id", category},
                                {"bbox", box_json(box)},
                                {"area", box.area()},
                                {"iscrowd", int(crowd)},
                                {"segmentation", square_json(box)}});
  }
  data::CocoAnnotations read() const {
    test::put(folder / "a.json", j.dump());
    return data::CocoAnnotations(folder / "a.json");
  }
};

CocoDetection found(int label, double score, const CocoBox& box) {
  return {.label = label, .score = score, .box = box, .area = box.area()};
}

CocoScores scores_of(const data::CocoAnnotations& truth,
                     const std::vector<std::vector<CocoDetection>>& images) {
  CocoEvaluation evaluation(truth, CocoIou::boxes);
  for (size_t i = 0; i < images.size(); ++i)
    evaluation.add(evaluation.judge(int64_t(i), images[i]));
  return evaluation.scores();
}

constexpr CocoBox kBox{10, 10, 50, 40};

// Boxes near objects and elsewhere, with equal scores and more of them than count.
struct RandomCase {
  Truth truth{12, 4};
  std::vector<std::vector<CocoDetection>> detections;

  explicit RandomCase(uint64_t seed) {
    Random random(seed, Purpose::test);
    const auto box = [&] {
      return CocoBox{random.uniform(0, 120), random.uniform(0, 120), random.uniform(4, 80),
                     random.uniform(4, 80)};
    };
    for (int image = 1; image <= 12; ++image) {
      auto& here = detections.emplace_back();
      for (int64_t n = random.integer(0, 8); n > 0; --n) {
        const auto category = int(random.integer(1, 3));
        CocoBox b = box();
        truth.add(image, category, b, random.bernoulli(0.1));
        for (int64_t k = random.integer(0, 4); k > 0; --k) {
          b.x += random.uniform(-4, 4), b.height += random.uniform(0, 6);
          here.push_back(found(category - 1, double(random.integer(1, 20)) / 20, b));
        }
      }
      for (int64_t n = random.integer(0, 130); n > 0; --n)
        here.push_back(found(int(random.integer(0, 3)), random.uniform(), box()));
    }
  }
};

}  // namespace

TEST_CASE("coco evaluation: one object that is found") {
  Truth t(1, 2);
  t.add(1, 1, kBox);
  const CocoScores s = scores_of(t.read(), {{found(0, 0.5, kBox)}});
  CHECK(s[CocoScores::AP] == doctest::Approx(1).epsilon(1e-12));
  CHECK(s[CocoScores::AR1] == 1);
  CHECK(s[CocoScores::AP_medium] == doctest::Approx(1).epsilon(1e-12));
  CHECK(s[CocoScores::AP_small] == -1);
  CHECK(s.classes[1].ap == -1);  // it has no objects
}

TEST_CASE("coco evaluation: nothing found, nothing there") {
  Truth t(2, 1);
  t.add(2, 1, kBox);
  CHECK(scores_of(t.read(), {})[CocoScores::AP] == 0);
  CHECK(scores_of(t.read(), {{found(0, 1, kBox)}, {}})[CocoScores::AR100] == 0);
  CHECK(scores_of(Truth(1, 1).read(), {{found(0, 1, kBox)}})[CocoScores::AP] == -1);
  CHECK(scores_of(Truth(0, 0).read(), {})[CocoScores::AP] == -1);
}

TEST_CASE("coco evaluation: a wrong one before the right one halves the precision") {
  Truth t(1, 1);
  t.add(1, 1, kBox);
  const CocoBox elsewhere{100, 100, 50, 40};
  const auto ap50 = [&](double wrong, double right) {
    return scores_of(t.read(),
                     {{found(0, wrong, elsewhere), found(0, right, kBox)}})[CocoScores::AP50];
  };
  CHECK(ap50(0.9, 0.8) == doctest::Approx(0.5).epsilon(1e-12));
  CHECK(ap50(0.8, 0.9) == doctest::Approx(1).epsilon(1e-12));
  CHECK(ap50(0.8, 0.8) ==
        doctest::Approx(0.5).epsilon(1e-12));  // of equal scores the first is first
}

TEST_CASE("coco evaluation: an object is found once, a crowd any number of times") {
  Truth t(1, 1);
  t.add(1, 1, {100, 100, 80, 80}, true);
  t.add(1, 1, kBox);
  const CocoBox in_crowd{110, 110, 20, 20};
  const CocoScores s = scores_of(t.read(), {{found(0, 0.9, in_crowd), found(0, 0.8, in_crowd),
                                             found(0, 0.7, kBox), found(0, 0.6, kBox)}});
  CHECK(s[CocoScores::AP] ==
        doctest::Approx(1).epsilon(1e-12));  // before the second find of the object
  CHECK(s[CocoScores::AR100] == 1);
  CHECK(s[CocoScores::AR1] == 0);
}

TEST_CASE("coco evaluation: the hundred best of a class in an image count") {
  Truth t(1, 2);
  t.add(1, 1, kBox);
  std::vector<CocoDetection> many(99, found(0, 0.9, {150, 150, 20, 20}));
  for (int i = 0; i < 300; ++i) many.push_back(found(1, 1, kBox));  // of another class
  many.push_back(found(0, 0.5, kBox));
  CHECK(scores_of(t.read(), {many})[CocoScores::AR100] == 1);
  many.push_back(found(0, 0.9, {150, 150, 20, 20}));
  CHECK(scores_of(t.read(), {many})[CocoScores::AR100] == 0);
}

TEST_CASE("coco evaluation: the same bits for any order, number of threads and of processes") {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const RandomCase c(seed);
    const data::CocoAnnotations truth = c.truth.read();
    const CocoScores expected = scores_of(truth, c.detections);
    CHECK(expected[CocoScores::AP] > 0.01);
    const int threads = num_threads();
    for (const int n : {1, 2, 5}) {
      set_num_threads(n);
      // Two processes with images in turn, the later one first.
      CocoEvaluation all(truth, CocoIou::boxes);
      for (const int64_t first : {1, 0})
        for (int64_t i = 10 + first; i >= 0; i -= 2) all.add(all.judge(i, c.detections[size_t(i)]));
      const CocoScores s = all.scores();
      CHECK(s.stats == expected.stats);
      for (size_t k = 0; k < s.classes.size(); ++k)
        CHECK(s.classes[k].ap == expected.classes[k].ap);
    }
    set_num_threads(threads);
  }
}

TEST_CASE("coco evaluation: results from files, of boxes and masks, by any number of threads") {
  const RandomCase c(7);
  const data::CocoAnnotations truth = c.truth.read();
  json results = json::array();
  for (size_t i = 0; i < c.detections.size(); ++i)
    for (const CocoDetection& d : c.detections[i])
      results.push_back({{"image_id", i + 1},
                         {"category_id", d.label + 1},
                         {"score", d.score},
                         {"bbox", box_json(d.box)},
                         {"segmentation", square_json(d.box)}});
  test::put(c.truth.folder / "r.json", results.dump());
  const CocoScores boxes = evaluate_results(
      truth, data::CocoResults(c.truth.folder / "r.json", truth, false), CocoIou::boxes);
  CHECK(boxes.stats == scores_of(truth, c.detections).stats);
  const data::CocoResults of_masks(c.truth.folder / "r.json", truth, true);
  const int threads = num_threads();
  set_num_threads(1);
  const CocoScores masks = evaluate_results(truth, of_masks, CocoIou::masks);
  set_num_threads(3);
  CHECK(evaluate_results(truth, of_masks, CocoIou::masks).stats == masks.stats);
  set_num_threads(threads);
  // The masks are the boxes, rounded to pixels.
  CHECK(masks[CocoScores::AP50] == doctest::Approx(boxes[CocoScores::AP50]).epsilon(0.1));
}

TEST_CASE("coco evaluation: what cannot be judged is refused") {
  Truth t(1, 1);
  t.add(1, 1, kBox);
  t.j["annotations"][0].erase("segmentation");
  const data::CocoAnnotations truth = t.read();
  CHECK(contains(error_of(ExitCode::nonfinite, [&] { scores_of(truth, {{found(0, NAN, kBox)}}); }),
                 "image 1: the score of a detection is nan"));
  CocoDetection d = found(0, 1, kBox);
  d.mask.emplace(data::RleMask{200, 200, {40000}});
  CHECK(contains(error_of(ExitCode::data,
                          [&] { CocoEvaluation(truth, CocoIou::masks).judge(0, std::vector{d}); }),
                 "annotation 1: segmentation: it is missing"));
}
