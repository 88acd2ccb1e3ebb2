#include "tools/golden/kinds.h"

#include "tools/golden/golden_losses.h"
#include "tools/golden/golden_resize.h"
#include "tools/golden/golden_sgformer.h"

namespace sg::golden {
namespace {

constexpr Kind kKinds[] = {
    {"hybrid_attention", check_module},
    {"self_guided_attention", check_module},
    {"full_attention", check_module},
    {"block_pair", check_module},
    {"mlp", check_module},
    {"stem", check_module},
    {"patch_merging", check_module},
    {"sgformer", check_model},
    {"segmentation_loss", check_segmentation_loss},
    {"interpolate", check_interpolate},
    {"adaptive_pool", check_adaptive_pool},
};

}  // namespace

const Kind* find_kind(std::string_view module) {
  const auto found = std::ranges::find(kKinds, module, &Kind::module);
  return found == std::end(kKinds) ? nullptr : found;
}

}  // namespace sg::golden
