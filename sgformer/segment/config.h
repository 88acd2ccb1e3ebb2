// What a segmentor is made of: a backbone, and the head that makes logits of each pixel of its
// maps.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "sgformer/config.h"

namespace sg::sgformer {

enum class Head { semantic_fpn, upernet };

struct SegmentorConfig {
  Config backbone;  // its `classes` are not used
  Head head = Head::semantic_fpn;
  int64_t classes = 150;
  int64_t channels = 128;            // of the head
  int64_t neck_channels = 256;       // of the feature pyramid below semantic_fpn; upernet: 0
  std::vector<int64_t> pool_scales;  // of upernet: sides of the grids that stage 4 is pooled to
  int64_t auxiliary_channels = 0;    // of the auxiliary head; 0: there is none
  double dropout = 0.1;              // of whole channels before the logits, in training
};

// Of a published backbone with the head of the paper and the drop-path rate that goes with it; for
// sgformer_nano with narrow heads. `head` is "semantic_fpn" or "upernet". Throws ExitCode::usage.
SegmentorConfig find_segmentor_config(std::string_view model, std::string_view head,
                                      int64_t classes);
std::vector<std::string> head_names();
std::string name_of(Head head);
Head parse_head(std::string_view text);  // throws ExitCode::usage

// Throws ExitCode::usage where something does not fit together.
void validate(const SegmentorConfig& config);

nlohmann::json config_to_json(const SegmentorConfig& config);
// Throws ExitCode::checkpoint naming what is missing, of the wrong type, or does not fit.
SegmentorConfig segmentor_config_from_json(const nlohmann::json& json);

}  // namespace sg::sgformer
