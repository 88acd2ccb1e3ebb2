#include "tools/common/detection.h"

#include "tools/common/eval.h"

namespace sg::tools {

infer::ObjectDetectorSettings object_detector_of_run(const infer::DetectorFile& file,
                                                     std::string_view path) {
  infer::ObjectDetectorSettings settings;
  settings.stats = file.preprocessing.stats;
  std::array<double, 2> scale{};
  if (take_of_run(file.state, "image_scale", scale, path))
    settings.scale = {.long_side = int(scale[0]), .short_side = int(scale[1])};
  return settings;
}

std::vector<int64_t> category_ids_of_run(const infer::DetectorFile& file, std::string_view path) {
  std::vector<int64_t> ids;
  try {
    if (file.state.contains("category_ids")) file.state["category_ids"].get_to(ids);
  } catch (const nlohmann::json::exception& e) {
    fail(ExitCode::checkpoint, "{}: category_ids: {}; it is of another version", path, e.what());
  }
  for (auto id = int64_t(ids.size()) + 1; id <= file.model->config().heads.classes; ++id)
    ids.push_back(id);
  return ids;
}

nlohmann::json coco_result(const infer::FoundObject& o, int64_t image_id, int64_t category_id,
                           ResultKind kind) {
  nlohmann::json j{{"image_id", image_id}, {"category_id", category_id}, {"score", o.score}};
  if (kind != ResultKind::mask) j["bbox"] = {o.box.x, o.box.y, o.box.width, o.box.height};
  if (kind != ResultKind::box)
    j["segmentation"] = {{"size", {o.mask.height, o.mask.width}},
                         {"counts", data::rle_to_string(o.mask)}};
  return j;
}

}  // namespace sg::tools
