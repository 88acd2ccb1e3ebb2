// Batch normalisation over all but the last dimension, and an activation after it in the same pass.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"
#include "ops/activation.h"

namespace sg {

// Processes that each have a part of the batch, and share its statistics (SyncBatchNorm).
class BatchParts {
 public:
  virtual ~BatchParts() = default;
  virtual int count() const = 0;
  // `mine` of every part, in order, in `all` (count, ...). Collective; in order of the device's
  // stream.
  virtual void all_gather(const Tensor& mine, Tensor& all) = 0;
};

struct BatchNormSettings {
  bool training = false;  // statistics of this batch, else the running ones
  double momentum = 0.1;  // of the batch in the running statistics, as torch
  double eps = 1e-5;
  Activation act = Activation::none;
  BatchParts* parts = nullptr;  // training: the batch is shared with others
};

// x (..., C) f32, f64 or bf16; w, b, running_mean, running_var (C) of the dtype acc_dtype(x).
// Training normalizes by the biased variance over all rows of all parts, and updates the running
// statistics (by the unbiased variance), but never by values that are not finite: the step that
// gave them is skipped. Needs two rows or more in training, as torch.
// Partial means and sums of squared differences are merged in a set order (Chan's formula), so a
// batch that is shared by several processes has the same statistics but for rounding.
Tensor batch_norm(const Tensor& x, const Tensor& w, const Tensor& b, Tensor running_mean,
                  Tensor running_var, const BatchNormSettings& settings);

}  // namespace sg
