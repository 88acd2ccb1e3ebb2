#include "sgformer/segment/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/text.h"
#include "sgformer/config_json.h"

namespace sg::sgformer {
namespace {

constexpr std::pair<std::string_view, Head> kHeads[] = {{"semantic_fpn", Head::semantic_fpn},
                                                        {"upernet", Head::upernet}};

constexpr int64_t kMaxChannels = 1 << 16;
constexpr int64_t kMaxClasses = 255;  // a label is a byte, and 255 is ignored

// Lower than for classification with the narrow head, as PVT has it; as Swin and CSWin for UperNet.
struct DropPath {
  double semantic_fpn, upernet;
};
const std::map<std::string_view, DropPath> kDropPath{{"sgformer_nano", {0, 0}},
                                                     {"sgformer_s", {0.1, 0.3}},
                                                     {"sgformer_m", {0.2, 0.4}},
                                                     {"sgformer_b", {0.3, 0.6}}};

}  // namespace

std::vector<std::string> head_names() {
  std::vector<std::string> names;
  for (const auto& [name, head] : kHeads) names.emplace_back(name);
  return names;
}

std::string name_of(Head head) { return head_names()[size_t(head)]; }

Head parse_head(std::string_view text) {
  for (const auto& [name, head] : kHeads)
    if (name == text) return head;
  fail(ExitCode::usage, "head '{}' is unknown{}; known: {}", text, did_you_mean(text, head_names()),
       fmt::join(head_names(), ", "));
}

SegmentorConfig find_segmentor_config(std::string_view model, std::string_view head,
                                      int64_t classes) {
  SegmentorConfig c;
  c.backbone = find_config(model);
  c.head = parse_head(head);
  c.classes = classes;
  const bool narrow = model == "sgformer_nano";
  const DropPath drop_path = kDropPath.at(c.backbone.name);
  if (c.head == Head::semantic_fpn) {
    c.neck_channels = narrow ? 48 : 256;
    c.channels = narrow ? 32 : 128;
    c.backbone.drop_path = drop_path.semantic_fpn;
  } else {
    c.neck_channels = 0;
    c.channels = narrow ? 48 : 512;
    c.pool_scales = {1, 2, 3, 6};
    c.auxiliary_channels = narrow ? 32 : 256;
    c.backbone.drop_path = drop_path.upernet;
  }
  validate(c);
  return c;
}

void validate(const SegmentorConfig& c) {
  validate(c.backbone);
  const auto require = [&](std::string_view what, int64_t found, int64_t least, int64_t most) {
    if (found < least || found > most)
      fail(ExitCode::usage, "{}: {}: expected from {} to {}, found {}", name_of(c.head), what,
           least, most, found);
  };
  const bool pyramid = c.head == Head::semantic_fpn;
  require("classes", c.classes, 1, kMaxClasses);
  require("channels", c.channels, 1, kMaxChannels);
  require("channels of the neck", c.neck_channels, pyramid ? 1 : 0, pyramid ? kMaxChannels : 0);
  require("pool scales", int64_t(c.pool_scales.size()), pyramid ? 0 : 1, pyramid ? 0 : 16);
  for (const int64_t side : c.pool_scales) require("a pool scale", side, 1, 1024);
  require("channels of the auxiliary head", c.auxiliary_channels, 0, kMaxChannels);
  if (!(c.dropout >= 0 && c.dropout < 1))
    fail(ExitCode::usage, "{}: dropout: expected a rate in [0, 1), found {}", name_of(c.head),
         c.dropout);
}

nlohmann::json config_to_json(const SegmentorConfig& c) {
  return {{"backbone", config_to_json(c.backbone)},
          {"head", name_of(c.head)},
          {"classes", c.classes},
          {"channels", c.channels},
          {"neck_channels", c.neck_channels},
          {"pool_scales", c.pool_scales},
          {"auxiliary_channels", c.auxiliary_channels},
          {"dropout", c.dropout}};
}

SegmentorConfig segmentor_config_from_json(const nlohmann::json& j) {
  SegmentorConfig c;
  try {
    c.backbone = config_from_json(j.at("backbone"));
    c.head = parse_head(j.at("head").get<std::string>());
    c.classes = whole_number(j.at("classes"));
    c.channels = whole_number(j.at("channels"));
    c.neck_channels = whole_number(j.at("neck_channels"));
    for (const auto& side : j.at("pool_scales")) c.pool_scales.push_back(whole_number(side));
    c.auxiliary_channels = whole_number(j.at("auxiliary_channels"));
    j.at("dropout").get_to(c.dropout);
    validate(c);
  } catch (const std::exception& e) {  // what JSON lacks, or what does not fit
    fail(ExitCode::checkpoint, "segmentor: {}", e.what());
  }
  return c;
}

}  // namespace sg::sgformer
