#include "ops/roi_align/roi_align.h"

#include "core/profile.h"
#include "ops/roi_align/axis.h"

namespace sg {

Tensor roi_align(const std::vector<Tensor>& maps, const Tensor& rois, const Tensor& levels,
                 const std::vector<double>& scales, int64_t size) {
  constexpr const char* op = "roi_align";
  check(!maps.empty() && maps.size() <= kMaxRoiMaps, "{}: maps: expected 1 to {}, found {}", op,
        kMaxRoiMaps, maps.size());
  check(scales.size() == maps.size(), "{}: scales: expected {}, one a map, found {}", op,
        maps.size(), scales.size());
  check(size >= 1 && size <= kMaxRoiBins, "{}: size: expected 1 to {}, found {}", op, kMaxRoiBins,
        size);
  for (const Tensor& x : maps) {
    check_dims(op, "maps", x, 4);
    check_like(op, "maps", x, maps[0]);
    check(x.dim(0) == maps[0].dim(0) && x.dim(3) == maps[0].dim(3),
          "{}: maps: expected a batch of {} and {} channels as the first, found {}", op,
          maps[0].dim(0), maps[0].dim(3), x.shape().str());
    for (const int64_t side : {x.dim(1), x.dim(2)})
      check(side >= 1 && side <= kMaxRoiPixels, "{}: maps: expected sides of 1 to {}, found {}", op,
            kMaxRoiPixels, x.shape().str());
  }
  const Tensor& x = maps[0];
  check_dims(op, "rois", rois, 2);
  const int64_t n = rois.dim(0), c = x.dim(3);
  check_shape(op, "rois", rois, {n, 5});
  check_acc_dtype(op, "rois", rois, x);
  autograd::refuse_grad("roi_align: rois", {rois});
  if (levels) {
    check_shape(op, "levels", levels, {n});
    check(levels.dtype() == Dtype::i32 && levels.device() == x.device(),
          "{}: levels: expected i32 on {}, found {} on {}", op, str(x.device()),
          name_of(levels.dtype()), str(levels.device()));
  } else {
    check(maps.size() == 1, "{}: levels: missing, with {} maps", op, maps.size());
  }

  Tensor y = empty({n, size, size, c}, x.dtype(), x.device());
  // At least: a bin of one sample.
  const double flops = 8 * double(y.numel()), bytes = 2 * double(y.bytes());
  {
    const profile::OpScope scope("roi_align.fwd", flops, bytes);
    kernels::roi_align_fwd(x.stream(), maps, rois, levels, scales, y);
  }
  autograd::record(op, {&y}, maps, [=, count = maps.size()](autograd::Backward& g) {
    std::vector<Grad> dmaps;
    double written = 0;
    for (size_t i = 0; i < count; ++i) {
      dmaps.push_back(g.grad(int(i)));
      if (dmaps.back()) written += double(dmaps.back().tensor.bytes());
    }
    const profile::OpScope scope("roi_align.bwd", flops, bytes / 2 + written);
    kernels::roi_align_bwd(g.dy().stream(), g.dy(), rois, levels, scales, dmaps);
  });
  return y;
}

}  // namespace sg
