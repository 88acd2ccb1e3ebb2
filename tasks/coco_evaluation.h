// Average precision and recall of detections as COCO defines them, with the numbers of pycocotools.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "data/coco/annotations.h"
#include "data/coco/results.h"

namespace sg::tasks {

enum class CocoIou { boxes, masks };

constexpr int kCocoThresholds = 10;   // of IoU: 0.50, 0.55, ... 0.95
constexpr int kCocoAreas = 4;         // all, small, medium, large
constexpr int kCocoDetections = 100;  // of a class in an image, those of the highest scores

// What a network found in an image.
struct CocoDetection {
  int32_t label = 0;
  double score = 0;  // finite
  data::CocoBox box;
  double area = 0;                           // by which it is small, medium or large
  std::optional<data::MeasuredMask> mask{};  // where masks are compared
};

// A detection and what it counts as, for each range of areas: bit t is for threshold t.
struct JudgedDetection {
  double score;
  int32_t label;
  int32_t image;
  int32_t rank;  // among those of its image and label, by score
  std::array<uint16_t, kCocoAreas> matched, ignored;
};

// Fractions; -1 where there is no object to be found.
struct CocoScores {
  enum Stat {
    AP,
    AP50,
    AP75,
    AP_small,
    AP_medium,
    AP_large,
    AR1,
    AR10,
    AR100,
    AR_small,
    AR_medium,
    AR_large
  };
  std::array<double, 12> stats;
  struct Class {
    double ap, ap50, ap75;
  };
  std::vector<Class> classes;  // by label

  double operator[](Stat s) const { return stats[size_t(s)]; }
};

// Images are judged one by one, in any order and by any thread or process; the scores depend on
// what was found alone.
class CocoEvaluation {
 public:
  // The annotations must outlive it, and hold masks where those are compared.
  CocoEvaluation(const data::CocoAnnotations& truth, CocoIou iou) : truth_(truth), iou_(iou) {}

  // All detections of an image, of equal scores the first first. It may be called from several
  // threads. Throws ExitCode::nonfinite where a score is not finite, ExitCode::data where an object
  // has no mask.
  std::vector<JudgedDetection> judge(int64_t image,
                                     std::span<const CocoDetection> detections) const;
  // Each image once; those of which nothing is added count as images in which nothing was found.
  void add(std::span<const JudgedDetection> judged);
  const std::vector<JudgedDetection>& judged() const { return judged_; }  // to send elsewhere

  CocoScores scores() const;

 private:
  const data::CocoAnnotations& truth_;
  CocoIou iou_;
  std::vector<JudgedDetection> judged_;
};

// Of results from a file, by all threads. A mask's area is that of its box where the results have
// boxes too, as pycocotools has it.
CocoScores evaluate_results(const data::CocoAnnotations& truth, const data::CocoResults& results,
                            CocoIou iou);

}  // namespace sg::tasks
