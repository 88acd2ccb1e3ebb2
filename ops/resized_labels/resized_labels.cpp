#include "ops/resized_labels/resized_labels.h"

#include "autograd/tape.h"
#include "core/profile.h"
#include "ops/bilinear_resize/axis.h"

namespace sg {
namespace {

void check_logits(const char* op, const Tensor& logits, ImageSize seen, ImageSize image) {
  check_dims(op, "logits", logits, 4);
  check(logits.numel() > 0, "{}: logits: {} is empty", op, logits.shape().str());
  check(logits.dim(3) <= 255, "{}: logits: expected at most 255 classes, found {}", op,
        logits.dim(3));
  for (const int64_t side : {logits.dim(1), logits.dim(2), int64_t{seen.height},
                             int64_t{seen.width}, int64_t{image.height}, int64_t{image.width}})
    check(1 <= side && side <= kMaxResizeSide, "{}: expected sides of 1 to {}, found {}", op,
          kMaxResizeSide, side);
  autograd::refuse_grad(op, {logits});
}

}  // namespace

Tensor resized_argmax(const Tensor& logits, ImageSize seen, ImageSize image) {
  check_logits("resized_argmax", logits, seen, image);
  Tensor labels = empty({logits.dim(0), image.height, image.width}, Dtype::u8, logits.device());
  const profile::OpScope scope("resized_argmax", 6.0 * double(labels.numel() * logits.dim(3)),
                               double(logits.bytes() + labels.bytes()));
  kernels::resized_argmax(logits.stream(), logits, seen, labels);
  return labels;
}

void add_resized_softmax(const Tensor& logits, ImageSize seen, bool flipped, Tensor& sum) {
  check_dims("add_resized_softmax", "sum", sum, 3);
  const ImageSize image(int(sum.dim(0)), int(sum.dim(1)));
  check_logits("add_resized_softmax", logits, seen, image);
  check(logits.dim(0) == 1, "add_resized_softmax: logits: expected those of one image, found {}",
        logits.shape().str());
  check_shape("add_resized_softmax", "sum", sum, {sum.dim(0), sum.dim(1), logits.dim(3)});
  check_acc_dtype("add_resized_softmax", "sum", sum, logits);
  const profile::OpScope scope("add_resized_softmax", 28.0 * double(sum.numel()),
                               double(logits.bytes() + 2 * sum.bytes()));
  kernels::add_resized_softmax(logits.stream(), logits, seen, flipped, sum);
}

Tensor argmax(const Tensor& scores) {
  check_dims("argmax", "scores", scores, 3);
  check(1 <= scores.dim(2) && scores.dim(2) <= 255,
        "argmax: scores: expected 1 to 255 classes, found {}", scores.dim(2));
  autograd::refuse_grad("argmax", {scores});
  Tensor labels = empty({scores.dim(0), scores.dim(1)}, Dtype::u8, scores.device());
  const profile::OpScope scope("argmax", double(scores.numel()),
                               double(scores.bytes() + labels.bytes()));
  kernels::argmax(scores.stream(), scores, labels);
  return labels;
}

Tensor scores_of(const Tensor& scores, const Tensor& labels) {
  check_dims("scores_of", "scores", scores, 3);
  check_shape("scores_of", "labels", labels, {scores.dim(0), scores.dim(1)});
  check(labels.dtype() == Dtype::u8 && labels.device() == scores.device(),
        "scores_of: labels: expected u8 on {}, found {} on {}", str(scores.device()),
        name_of(labels.dtype()), str(labels.device()));
  autograd::refuse_grad("scores_of", {scores});
  Tensor found = empty(labels.shape(), scores.dtype(), scores.device());
  const profile::OpScope scope("scores_of", 0, double(labels.bytes() + 2 * found.bytes()));
  kernels::scores_of(scores.stream(), scores, labels, found);
  return found;
}

}  // namespace sg
