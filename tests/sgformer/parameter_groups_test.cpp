#include "sgformer/parameter_groups.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/files.h"

using namespace sg;
using namespace sg::sgformer;
using test::contains, test::error_of;

namespace {

nn::ParameterGroup group(const GroupSettings& settings, const std::string& name,
                         Shape shape = {2, 2}, const std::string& prefix = "") {
  return group_rule(find_config("sgformer_s"), settings, prefix)({name, shape});
}

}  // namespace

TEST_CASE("layer decay: the learning rate falls from the head to the stem") {
  // sgformer_s has 2, 4, 16 and 1 blocks, so the head is layer 24.
  for (const auto& [name, depth] :
       std::vector<std::pair<std::string, int>>{{"pos_embed", 0},
                                                {"patch_embed1.conv.0.c.weight", 0},
                                                {"block1.0.norm1.w", 1},
                                                {"block1.1.attn.q.weight", 2},
                                                {"norm1.weight", 2},
                                                {"patch_embed2.conv1.c.weight", 3},
                                                {"block2.0.mlp.fc1", 3},
                                                {"block2.3.mlp.fc1", 6},
                                                {"norm2.weight", 6},
                                                {"patch_embed3.conv1.c.weight", 7},
                                                {"block3.15.mlp.fc1", 22},
                                                {"patch_embed4.conv1.c.weight", 23},
                                                {"block4.0.mlp.fc1", 23},
                                                {"norm4.weight", 23},
                                                {"head.weight", 24},
                                                {"normalizer.weight", 24},
                                                {"block5.0.w", 24}}) {
    CAPTURE(name);
    CHECK(group({.layer_decay = 0.75}, name).lr_scale == std::pow(0.75, 24 - depth));
    CHECK(group({}, name).lr_scale == 1);
    CHECK(group({.layer_decay = 0.75}, "backbone." + name, {2, 2}, "backbone.").lr_scale ==
          std::pow(0.75, 24 - depth));
  }
  // Without its prefix it is none of the backbone's.
  CHECK(group({.layer_decay = 0.75}, "norm1.weight", {2, 2}, "backbone.").lr_scale == 1);
  CHECK(group({.layer_decay = 0.75}, "norm1.weight", {2}).weight_decay_scale == 0);
  CHECK(group({.layer_decay = 0.75}, "block1.0.w", {2, 2}).weight_decay_scale == 1);
}

TEST_CASE("frozen stages take their stem, transition and norm with them") {
  const auto frozen = [](int stages, const std::string& name) {
    return group({.frozen_stages = stages}, name).frozen;
  };
  for (const char* name :
       {"pos_embed", "patch_embed1.norm.weight", "block1.1.norm1.weight", "norm1.weight"}) {
    CHECK(!frozen(0, name));
    CHECK(frozen(1, name));
  }
  for (const char* name : {"patch_embed3.conv1.c.weight", "block3.15.mlp.fc1.bias", "norm3.bias"}) {
    CHECK(!frozen(2, name));
    CHECK(frozen(3, name));
  }
  CHECK(frozen(4, "norm4.bias"));
  CHECK(!frozen(4, "head.bias"));
}

TEST_CASE("--freeze takes the backbone or a number of stages") {
  CHECK(parse_frozen_stages("") == 0);
  CHECK(parse_frozen_stages("1") == 1);
  CHECK(parse_frozen_stages("4") == 4);
  CHECK(parse_frozen_stages("backbone") == 4);
  for (const char* wrong : {"0", "5", "-1", "1x", "head"})
    CHECK(contains(error_of(ExitCode::usage, [&] { parse_frozen_stages(wrong); }),
                   "--freeze: expected backbone, or a number of stages from 1 to 4, found"));
}
