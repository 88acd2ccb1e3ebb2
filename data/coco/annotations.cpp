#include "data/coco/annotations.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/text.h"
#include "data/coco/coco_json.h"

namespace sg::data {
namespace {

// Indices of values, by ascending value; throws where one occurs twice.
std::vector<size_t> order_of(const std::vector<int64_t>& ids, std::string_view file,
                             std::string_view list) {
  std::vector<size_t> order(ids.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto id = [&](size_t i) { return ids[i]; };
  std::ranges::sort(order, {}, [&](size_t i) { return std::pair(ids[i], i); });
  const auto twice = std::ranges::adjacent_find(order, {}, id);
  if (twice != order.end())
    fail(ExitCode::data, "{}: {}[{}]: the id {} is that of {}[{}] too", file, list, twice[1],
         ids[*twice], list, *twice);
  return order;
}

template <class T>
int64_t find(const std::vector<T>& sorted, int64_t id, int64_t T::*member) {
  const auto found = std::ranges::lower_bound(sorted, id, {}, member);
  return found != sorted.end() && (*found).*member == id ? found - sorted.begin() : -1;
}

}  // namespace

CocoAnnotations::CocoAnnotations(const std::filesystem::path& path, Masks masks)
    : file_(escape_name(path.string())) {
  using List = CocoRecord::List;
  struct NotYet {
    int64_t image_id, category_id;
  };
  std::vector<CocoImage> images;
  std::vector<std::string> names;
  std::vector<int64_t> image_ids, category_ids, object_ids;
  ClassNames class_names;
  std::vector<CocoObject> objects;
  std::vector<NotYet> owners;
  read_coco_json(path, CocoFile::annotations, [&](CocoRecord& r) {
    if (r.list == List::images) {
      if (r.width < 1 || r.height < 1 || r.width > INT32_MAX / r.height)
        fail(ExitCode::data,
             "{}: {}: expected a width and height of 1 to 2^31 pixels in all, found {} and {}",
             file_, r.str(), r.width, r.height);
      images.push_back({r.id, int32_t(r.height), int32_t(r.width)});
      image_ids.push_back(r.id), names.push_back(std::move(r.name));
    } else if (r.list == List::categories) {
      category_ids.push_back(r.id), class_names.push_back(escape_name(r.name));
    } else {
      CocoObject object{
          .id = r.id, .box = r.box, .area = r.area, .crowd = r.crowd, .ignore = r.ignore};
      if (masks == Masks::keep && !r.segmentation.empty()) {
        object.segmentation = segmentations_.size();
        r.segmentation.append_to(segmentations_);
      }
      objects.push_back(object), object_ids.push_back(r.id);
      owners.push_back({r.image_id, r.category_id});
    }
  });
  segmentations_.shrink_to_fit();
  order_of(object_ids, file_, "annotations");
  for (const size_t i : order_of(image_ids, file_, "images"))
    images_.push_back(images[i]), file_names_.add(names[i]);
  for (const size_t i : order_of(category_ids, file_, "categories"))
    category_ids_.push_back(category_ids[i]), class_names_.push_back(class_names[i]);
  std::vector<int64_t> image_of;
  for (size_t k = 0; k < objects.size(); ++k) {
    const auto unknown = [&](std::string_view field, int64_t id, std::string_view list) {
      fail(ExitCode::data, "{}: annotations[{}] (id {}): {} {} is none of the list of {}", file_, k,
           objects[k].id, field, id, list);
    };
    image_of.push_back(find_image(owners[k].image_id));
    if (image_of[k] < 0) unknown("image_id", owners[k].image_id, "images");
    objects[k].label = find_label(owners[k].category_id);
    if (objects[k].label < 0) unknown("category_id", owners[k].category_id, "categories");
  }
  objects_ = {std::move(objects), image_of, size()};
}

int64_t CocoAnnotations::find_image(int64_t id) const { return find(images_, id, &CocoImage::id); }

int CocoAnnotations::find_label(int64_t id) const {
  const auto found = std::ranges::lower_bound(category_ids_, id);
  return found != category_ids_.end() && *found == id ? int(found - category_ids_.begin()) : -1;
}

RleMask CocoAnnotations::mask(int64_t image, const CocoObject& object) const try {
  if (object.segmentation == kNoSegmentation)
    fail(ExitCode::data, "it is missing or empty; masks need one of every object");
  const CocoImage& of = images_[size_t(image)];
  return CocoSegmentation::read(std::span(segmentations_).subspan(object.segmentation))
      .mask(of.height, of.width);
} catch (const Error& e) {
  fail(ExitCode::data, "{}: annotation {}: segmentation: {}", file_, object.id, e.what());
}

}  // namespace sg::data
