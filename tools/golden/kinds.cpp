#include "tools/golden/kinds.h"

#include "tools/golden/golden_boxes.h"
#include "tools/golden/golden_coco.h"
#include "tools/golden/golden_detect_heads.h"
#include "tools/golden/golden_detect_losses.h"
#include "tools/golden/golden_heads.h"
#include "tools/golden/golden_losses.h"
#include "tools/golden/golden_miou.h"
#include "tools/golden/golden_opencv.h"
#include "tools/golden/golden_resize.h"
#include "tools/golden/golden_roi.h"
#include "tools/golden/golden_segmentor.h"
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
    {"segmentor", check_segmentor},
    {"fpn", check_fpn},
    {"semantic_fpn", check_semantic_fpn},
    {"upernet", check_upernet},
    {"fcn_head", check_fcn_head},
    {"rpn_head", check_rpn_head},
    {"box_head", check_box_head},
    {"mask_head", check_mask_head},
    {"miou", check_miou},
    {"segmentation_loss", check_segmentation_loss},
    {"rpn_loss", check_rpn_loss},
    {"roi_loss", check_roi_loss},
    {"mask_loss", check_mask_loss},
    {"resize_u8", check_opencv_resize},
    {"photometric", check_photometric},
    {"interpolate", check_interpolate},
    {"adaptive_pool", check_adaptive_pool},
    {"roi_align", check_roi_align},
    {"roi_extract", check_roi_extract},
    {"mask_targets", check_mask_targets},
    {"anchors", check_anchors},
    {"box_coder", check_box_coder},
    {"box_iou", check_box_iou},
    {"nms", check_nms},
    {"assigner", check_assigner},
    {"roi_levels", check_roi_levels},
    {"rpn_proposals", check_rpn_proposals},
    {"detections", check_detections},
    {"mask_paste", check_mask_paste},
};

}  // namespace

const Kind* find_kind(std::string_view module) {
  const auto found = std::ranges::find(kKinds, module, &Kind::module);
  return found == std::end(kKinds) ? nullptr : found;
}

}  // namespace sg::golden
