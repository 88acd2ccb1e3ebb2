#include "sgformer/detect/losses.h"

#include <algorithm>

#include "ops/cross_entropy/cross_entropy.h"
#include "ops/sampled_loss/sampled_loss.h"

namespace sg::sgformer {

DetectorLoss rpn_loss(const RpnHead::Output& outputs, const RpnSamples& samples) {
  const auto count = double(samples.positive.numel() + samples.negative.numel());
  const double divisor = std::max(count, 1.0);
  return {sampled_binary_cross_entropy(outputs.logits, samples.positive, samples.negative, divisor),
          sampled_l1(outputs.deltas, samples.positive, samples.targets, divisor)};
}

std::vector<int32_t> positive_rows(std::span<const int32_t> labels, int64_t classes) {
  std::vector<int32_t> rows;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0 || labels[i] > classes)
      fail(ExitCode::data, "proposal {}: class {} of {} does not exist", i, labels[i], classes);
    if (labels[i] < classes) rows.push_back(int32_t(int64_t(i) * classes) + labels[i]);
  }
  return rows;
}

DetectorLoss roi_loss(const BoxHead::Output& outputs, const RoiSamples& samples) {
  const Tensor& logits = outputs.logits;
  check_dims("roi_loss", "logits", logits, 2);
  const Tensor targets =
      smooth_one_hot(samples.labels, logits.dim(1), 0, acc_dtype(logits.dtype()));
  return {soft_cross_entropy(logits, targets).loss,
          sampled_l1({outputs.deltas}, samples.rows, samples.targets, double(logits.dim(0)))};
}

}  // namespace sg::sgformer
