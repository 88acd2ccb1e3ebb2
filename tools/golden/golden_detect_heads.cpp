#include "tools/golden/golden_detect_heads.h"

#include "sgformer/detect/heads.h"
#include "tools/golden/golden_heads.h"

namespace sg::golden {
namespace {

using namespace sgformer;

// Convolutions and matmuls that follow each other, and ReLUs between them.
constexpr Chain kRpnHead{2, 0, 1}, kBoxHead{3, 0, 2}, kMaskHead{6, 0, 5};

}  // namespace

std::vector<Row> check_rpn_head(const Case& c) {
  nn::ParameterStore store;
  const RpnHead head(nn::ParameterScope(store),
                     {.channels = c.number("in_channels"), .anchors = c.number("anchors")});
  return check_maps(c, store, kRpnHead, [&](const auto& maps) {
    auto [logits, deltas] = head(maps);
    logits.insert(logits.end(), deltas.begin(), deltas.end());
    return logits;
  });
}

std::vector<Row> check_box_head(const Case& c) {
  nn::ParameterStore store;
  const BoxHead head(nn::ParameterScope(store), {.channels = c.number("in_channels"),
                                                 .hidden = c.number("hidden"),
                                                 .classes = c.number("classes")});
  return check_maps(c, store, kBoxHead, [&](const auto& maps) -> std::vector<Tensor> {
    const auto [logits, deltas] = head(maps[0]);
    return {logits, deltas};
  });
}

std::vector<Row> check_mask_head(const Case& c) {
  nn::ParameterStore store;
  const MaskHead head(nn::ParameterScope(store),
                      {.channels = c.number("in_channels"), .classes = c.number("classes")});
  return check_maps(c, store, kMaskHead,
                    [&](const auto& maps) -> std::vector<Tensor> { return {head(maps[0])}; });
}

}  // namespace sg::golden
