// How pixels were classified, and the scores of semantic segmentation that follow.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace sg::tasks {

// Pixels of one class.
struct ClassPixels {
  int64_t labelled = 0, predicted = 0, right = 0;

  // Neither labelled nor predicted: out of all means.
  bool absent() const { return labelled == 0 && predicted == 0; }
  // right / (labelled + predicted - right): NaN where absent, 0 where it is predicted but never
  // labelled.
  double iou() const;
  double accuracy() const;  // right / labelled; NaN where it is never labelled
};

// Fractions; NaN where nothing is labelled.
struct PixelScores {
  double all_accuracy;   // aAcc: of all pixels
  double mean_accuracy;  // mAcc: over the classes, those that are NaN left out
  double mean_iou;       // mIoU: likewise
};

// Counts over any number of images: sums over a whole set, so that scores do not depend on the
// order of images, nor on who counted which. Pixels labelled `ignore` count nowhere, whatever is
// predicted there. Scores are those of mmsegmentation.
class PixelConfusion {
 public:
  explicit PixelConfusion(int64_t classes, int ignore = 255);

  // Labels and predictions of as many pixels. Throws ExitCode::data on a label that is neither a
  // class nor `ignore`.
  void add(std::span<const uint8_t> labels, std::span<const uint8_t> predictions);
  // Those that another one counted.
  void add(std::span<const int64_t> counts);

  int64_t classes() const { return classes_; }
  const std::vector<int64_t>& counts() const { return counts_; }  // [label * classes + predicted]
  ClassPixels of(int64_t c) const;
  int64_t pixels() const;  // labelled
  PixelScores scores() const;

 private:
  int64_t classes_;
  int ignore_;
  std::vector<int64_t> counts_;
};

}  // namespace sg::tasks
