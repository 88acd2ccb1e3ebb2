// What a detector is made of: a published backbone, and the heads of Mask R-CNN on it.
#pragma once
#include <nlohmann/json.hpp>
#include <string_view>

#include "sgformer/detect/detector.h"
#include "sgformer/parameter_groups.h"

namespace sg::sgformer {

// Of a published backbone with the drop-path rate of the 1x schedule; of sgformer_nano with narrow
// heads, and a stem that divides by 4 as the others' do. Throws ExitCode::usage.
DetectorConfig find_detector_config(std::string_view model, int64_t classes);
// Drop-path rate of the last block for a short schedule (1x), and for a long one (3x).
double detector_drop_path(std::string_view model, bool long_schedule);

// Throws ExitCode::usage where something does not fit together.
void validate(const DetectorConfig& config);

nlohmann::json config_to_json(const DetectorConfig& config);
// Throws ExitCode::checkpoint naming what is missing, of the wrong type, or does not fit.
DetectorConfig detector_config_from_json(const nlohmann::json& json);

// Weight decay as Swin's detectors have it: of all but the norms and the positional embedding.
// Learning rates and freezing as group_rule() of the backbone.
nn::GroupRule group_rule(const DetectorConfig& config, const GroupSettings& settings);

}  // namespace sg::sgformer
