#include "ops/mask_targets/mask_targets.h"

#include "core/profile.h"
#include "ops/roi_align/axis.h"

namespace sg {

Tensor mask_targets(const Tensor& masks, const Tensor& boxes, const Tensor& objects, int64_t size) {
  constexpr const char* op = "mask_targets";
  check_dims(op, "masks", masks, 3);
  check(masks.dtype() == Dtype::u8, "{}: masks: expected u8, found {}", op, name_of(masks.dtype()));
  for (const int64_t side : {masks.dim(1), masks.dim(2)})
    check(side >= 1 && side <= kMaxRoiPixels, "{}: masks: expected sides of 1 to {}, found {}", op,
          kMaxRoiPixels, masks.shape().str());
  check(size >= 1 && size <= kMaxRoiBins, "{}: size: expected 1 to {}, found {}", op, kMaxRoiBins,
        size);
  check_dims(op, "boxes", boxes, 2);
  const int64_t n = boxes.dim(0);
  check_shape(op, "boxes", boxes, {n, 4});
  check_shape(op, "objects", objects, {n});
  check(objects.dtype() == Dtype::i32, "{}: objects: expected i32, found {}", op,
        name_of(objects.dtype()));
  for (const Tensor* t : {&boxes, &objects})
    check(t->device() == masks.device(), "{}: masks are on {}, boxes or objects on {}", op,
          str(masks.device()), str(t->device()));
  autograd::refuse_grad(op, {boxes});

  Tensor targets = empty({n, size, size}, Dtype::u8, masks.device());
  const profile::OpScope scope(op, 0, double(masks.bytes() + targets.bytes()));
  kernels::mask_targets(masks.stream(), masks, boxes, objects, targets);
  return targets;
}

}  // namespace sg
