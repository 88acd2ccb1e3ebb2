// Learning rates and freezing by depth in the backbone.
#pragma once
#include <string>
#include <string_view>

#include "nn/parameters.h"
#include "sgformer/config.h"

namespace sg::sgformer {

struct GroupSettings {
  double layer_decay = 1;  // the learning rate of a layer over that of the one above; 1: the same
  int frozen_stages = 0;   // how many stages, counted from the input; 4: the whole backbone
};

// "backbone" or the number of a stage, as --freeze takes it; "" freezes nothing. Throws
// ExitCode::usage.
int parse_frozen_stages(std::string_view text);

// nn::published_group(), with the learning rate of a parameter scaled by
// layer_decay^(layers - depth), as timm does it. The depth of a block is its number in the network,
// counted from 1; of patch merging, that of the block after it; of a stage's norm, that of the
// block before it; of stem and positional embedding, 0. `layers` is the number of blocks + 1, the
// depth of all outside the backbone (the head), so that is scaled by 1. Stem and positional
// embedding are frozen with stage 1, patch merging and norm with their own stage. `prefix` is that
// of the backbone's names, "backbone." or none.
nn::GroupRule group_rule(const Config& config, const GroupSettings& settings,
                         std::string prefix = "");

}  // namespace sg::sgformer
