// RoIAlign: the means of a map over the bins of boxes, as torchvision.ops.roi_align with
// aligned = true and sampling_ratio = 0. A bin is sampled at ceil(height of a bin) x ceil(width of
// a bin) places, in pixels of the map, each read bilinearly; places more than a pixel outside of
// the map count as 0.
#pragma once
#include <vector>

#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// maps (B, H_l, W_l, C) f32, f64 or bf16, of which map l is scales[l] times as large as the images;
// rois (n, 5) of the dtype acc_dtype(maps): number of the image, then x1, y1, x2, y2 in pixels of
// it; levels (n) i32: the map that each RoI reads, or undefined where there is one map
// -> (n, size, size, C). size is 1 to 64, sides of maps 1 to 65536. RoIs carry no gradient. A RoI
// of no size gives 0.
// A RoI whose image or map is not there, or whose box is not finite or more than 65536 pixels of
// the map away, throws ExitCode::data on the CPU. A device cannot report it: its result is NaN.
Tensor roi_align(const std::vector<Tensor>& maps, const Tensor& rois, const Tensor& levels,
                 const std::vector<double>& scales, int64_t size);

constexpr size_t kMaxRoiMaps = 8;

namespace kernels {
using RoiAlignFwd = void(Stream&, const std::vector<Tensor>& maps, In rois, In levels,
                         const std::vector<double>& scales, Out y);
// One gradient a map; every pixel's sum has the order of the RoIs.
using RoiAlignBwd = void(Stream&, In dy, In rois, In levels, const std::vector<double>& scales,
                         const std::vector<Grad>& dmaps);
constinit inline Slot<RoiAlignFwd> roi_align_fwd{"roi_align.fwd"};
constinit inline Slot<RoiAlignBwd> roi_align_bwd{"roi_align.bwd"};
}  // namespace kernels

}  // namespace sg
