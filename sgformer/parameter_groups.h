// Learning rates and freezing by depth in the backbone.
#pragma once
#include <string>
#include <string_view>

#include "nn/parameters.h"
#include "sgformer/config.h"

namespace sg::sgformer {

struct GroupSettings {
  double layer_decay = 1;  // the learning rate of a layer over that of the one above; 1: the same
  int frozen_stages = 0;   // so many from the input on; 4: the whole backbone
};

// "backbone" or the number of a stage, as --freeze takes it; "" freezes nothing. Throws
// ExitCode::usage.
int parse_frozen_stages(std::string_view text);

// nn::published_group(), with the learning rate of a parameter scaled by
// layer_decay^(layers - depth), as timm does it. Layers are the blocks of all stages, counted from
// 1; a transition has the depth of the block after it, a stage's norm that of the block before it,
// stem and positional embedding have depth 0. Of all that is not of the backbone (the head), the
// learning rate is scaled by 1: its depth is that of the last block and 1, and so many are the
// layers. Stem and positional embedding are frozen with stage 1, transition and norm with their own
// stage. `prefix` is that of the backbone's names, "backbone." or none.
nn::GroupRule group_rule(const Config& config, const GroupSettings& settings,
                         std::string prefix = "");

}  // namespace sg::sgformer
