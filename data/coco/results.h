// Results of detection in COCO's form: a list of what was found, with boxes or masks.
#pragma once
#include "data/coco/annotations.h"

namespace sg::data {

// A box or mask of an image that is thought to be of a class.
struct CocoResult {
  int32_t label = 0;
  double score = 0;
  CocoBox box;
  bool has_box = false;
  uint64_t segmentation = kNoSegmentation;
};

// Immutable after construction; all members may be called from several threads.
class CocoResults {
 public:
  // Categories and images are those of `of`, which must outlive it. Results of an unknown category
  // are left out. Throws ExitCode::data naming file, record and field of what is wrong; an unknown
  // image is an error. `masks`: each needs a segmentation, else a bbox.
  CocoResults(const std::filesystem::path& file, const CocoAnnotations& of, bool masks);

  // Of an image, in the order of the file.
  std::span<const CocoResult> of(int64_t image) const { return results_.of(image); }
  int64_t size() const { return int64_t(results_.all().size()); }
  int64_t left_out() const { return left_out_; }
  RleMask mask(int64_t image, const CocoResult& result) const;

 private:
  std::string file_;
  const CocoAnnotations& annotations_;
  GroupedByImage<CocoResult> results_;
  std::vector<uint8_t> segmentations_;
  int64_t left_out_ = 0;
};

}  // namespace sg::data
