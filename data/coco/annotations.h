// Annotations of COCO: images, and the objects in each with boxes and masks.
#pragma once
#include <filesystem>
#include <string>

#include "data/class_names.h"
#include "data/coco/grouped.h"
#include "data/coco/segmentation.h"
#include "data/folder_listing.h"

namespace sg::data {

constexpr uint64_t kNoSegmentation = UINT64_MAX;

struct CocoObject {
  int64_t id = 0;
  CocoBox box;
  double area = 0;    // pixels of its mask, as the file says
  int32_t label = 0;  // the rank of its category, by ascending id
  bool crowd = false;
  bool ignore = false;
  uint64_t segmentation = kNoSegmentation;  // where in the file's masks
};

struct CocoImage {
  int64_t id = 0;
  int32_t height = 0, width = 0;
};

// Immutable after construction; all members may be called from several threads. What it holds of a
// mask is a byte or two a coordinate.
class CocoAnnotations {
 public:
  enum class Masks { keep, leave_out };
  // Throws ExitCode::data naming file, record and field of what is wrong: no JSON, a field that is
  // missing or of another type, an id twice, an unknown image or category, an RLE of another size
  // than its image.
  explicit CocoAnnotations(const std::filesystem::path& file, Masks masks = Masks::keep);

  const std::string& file() const { return file_; }  // for messages
  // By ascending id.
  int64_t size() const { return int64_t(images_.size()); }
  const CocoImage& image(int64_t i) const { return images_[size_t(i)]; }
  std::string_view file_name(int64_t i) const { return file_names_[size_t(i)]; }
  int64_t find_image(int64_t id) const;  // -1: there is none
  // Of labels, by ascending id.
  const ClassNames& class_names() const { return class_names_; }
  const std::vector<int64_t>& category_ids() const { return category_ids_; }
  int find_label(int64_t category_id) const;  // -1: there is none

  // Of an image, in the order of the file.
  std::span<const CocoObject> objects(int64_t image) const { return objects_.of(image); }
  int64_t objects() const { return int64_t(objects_.all().size()); }
  // Throws ExitCode::data where the object has none.
  RleMask mask(int64_t image, const CocoObject& object) const;

 private:
  std::string file_;
  std::vector<CocoImage> images_;
  PathList file_names_;
  ClassNames class_names_;
  std::vector<int64_t> category_ids_;
  GroupedByImage<CocoObject> objects_;
  std::vector<uint8_t> segmentations_;
};

}  // namespace sg::data
