#include "data/coco/results.h"

#include "core/error.h"
#include "core/text.h"
#include "data/coco/coco_json.h"

namespace sg::data {

CocoResults::CocoResults(const std::filesystem::path& path, const CocoAnnotations& of, bool masks)
    : file_(escape_name(path.string())), annotations_(of) {
  std::vector<CocoResult> results;
  std::vector<int64_t> images;
  read_coco_json(path, CocoFile::results, [&](CocoRecord& r) {
    const int64_t image = of.find_image(r.image_id);
    if (image < 0)
      fail(ExitCode::data, "{}: {}: image_id is none of {}; are the results of another set?", file_,
           r.str(), of.file());
    if (masks ? r.segmentation.empty() : !r.has_box)
      fail(ExitCode::data, "{}: {}: the field '{}' is missing", file_, r.str(),
           masks ? "segmentation" : "bbox");
    CocoResult result{.label = of.find_label(r.category_id),
                      .score = r.score,
                      .box = r.box,
                      .has_box = r.has_box};
    if (result.label < 0) {
      ++left_out_;
      return;
    }
    if (masks) {
      result.segmentation = segmentations_.size();
      r.segmentation.append_to(segmentations_);
    }
    results.push_back(result), images.push_back(image);
  });
  results_ = {std::move(results), images, of.size()};
}

RleMask CocoResults::mask(int64_t image, const CocoResult& result) const try {
  const CocoImage& of = annotations_.image(image);
  return CocoSegmentation::read(std::span(segmentations_).subspan(result.segmentation))
      .mask(of.height, of.width);
} catch (const Error& e) {
  fail(ExitCode::data, "{}: a result of image {}: segmentation: {}", file_,
       annotations_.image(image).id, e.what());
}

}  // namespace sg::data
