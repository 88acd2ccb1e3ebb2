#include "sgformer/detect/config.h"

#include <map>

#include "core/error.h"
#include "sgformer/config_json.h"

namespace sg::sgformer {
namespace {

constexpr int64_t kMaxChannels = 1 << 16;
constexpr int64_t kMaxClasses = 1 << 16;
constexpr int kFirstStride = 4;  // pixels of the image a pixel of the first map

// Ours, as the paper says none: Swin and PVT have 0.1 to 0.2 for networks like S.
struct DropPath {
  double short_schedule, long_schedule;
};
const std::map<std::string_view, DropPath> kDropPath{{"sgformer_nano", {0, 0}},
                                                     {"sgformer_s", {0.1, 0.2}},
                                                     {"sgformer_m", {0.2, 0.3}},
                                                     {"sgformer_b", {0.3, 0.4}}};

}  // namespace

DetectorConfig find_detector_config(std::string_view model, int64_t classes) {
  DetectorConfig c{.backbone = find_config(model)};
  c.heads.classes = classes;
  c.backbone.drop_path = detector_drop_path(model, false);
  if (model == "sgformer_nano") {
    c.backbone.stem_strides = {2, 1, 2};
    c.heads.channels = 48, c.heads.hidden = 128;
  }
  validate(c);
  return c;
}

double detector_drop_path(std::string_view model, bool long_schedule) {
  const DropPath& rates = kDropPath.at(find_config(model).name);
  return long_schedule ? rates.long_schedule : rates.short_schedule;
}

void validate(const DetectorConfig& c) {
  validate(c.backbone);
  const auto require = [](std::string_view what, int64_t found, int64_t least, int64_t most) {
    if (found < least || found > most)
      fail(ExitCode::usage, "detector: {}: expected from {} to {}, found {}", what, least, most,
           found);
  };
  int stride = 1;
  for (const int s : c.backbone.stem_strides) stride *= s;
  require("stride of the stem", stride, kFirstStride, kFirstStride);
  require("classes", c.heads.classes, 1, kMaxClasses);
  require("channels", c.heads.channels, 1, kMaxChannels);
  require("hidden channels", c.heads.hidden, 1, kMaxChannels);
  require("anchors", c.heads.anchors, 3, 3);
  require("size of a box's maps", c.heads.box_size, 1, 64);
  require("size of a mask's maps", c.heads.mask_size, 1, 32);
}

nlohmann::json config_to_json(const DetectorConfig& c) {
  return {{"backbone", config_to_json(c.backbone)},
          {"classes", c.heads.classes},
          {"channels", c.heads.channels},
          {"anchors", c.heads.anchors},
          {"hidden", c.heads.hidden},
          {"box_size", c.heads.box_size},
          {"mask_size", c.heads.mask_size}};
}

DetectorConfig detector_config_from_json(const nlohmann::json& j) {
  DetectorConfig c;
  try {
    c.backbone = config_from_json(j.at("backbone"));
    c.heads.classes = whole_number(j.at("classes"));
    c.heads.channels = whole_number(j.at("channels"));
    c.heads.anchors = whole_number(j.at("anchors"));
    c.heads.hidden = whole_number(j.at("hidden"));
    c.heads.box_size = whole_number(j.at("box_size"));
    c.heads.mask_size = whole_number(j.at("mask_size"));
    validate(c);
  } catch (const std::exception& e) {  // what JSON lacks, or what does not fit
    fail(ExitCode::checkpoint, "detector: {}", e.what());
  }
  return c;
}

nn::GroupRule group_rule(const DetectorConfig& config, const GroupSettings& settings) {
  return
      [by_depth = group_rule(config.backbone, settings, "backbone.")](const nn::NamedSlice& part) {
        nn::ParameterGroup group = by_depth(part);
        if (group.frozen) return group;
        const bool norm = part.name.find("norm") != part.name.npos ||
                          part.name.find(".bn.") != part.name.npos;  // group norms, by their name
        const bool exempt = norm || part.name.find("pos_embed") != part.name.npos;
        group.weight_decay_scale = exempt ? 0 : 1;
        return group;
      };
}

}  // namespace sg::sgformer
