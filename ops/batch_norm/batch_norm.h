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
  BatchParts* parts = nullptr;  // training: the batch is shared; must outlive backward
};

// x (..., C) f32, f64 or bf16; w, b, running_mean, running_var (C) of the dtype acc_dtype(x).
// Training normalizes by the biased variance over all rows of all parts, and updates the running
// statistics (by the unbiased variance), but never by values that are not finite: the step that
// gave them is skipped. Needs two rows or more in training, as torch. Of several parts each has the
// gradients of w and b that its own rows give. Backward keeps x, and the mask of ReLU is found
// again. Partial means and sums of squared differences are merged in a set order (Chan's formula),
// so a batch that is shared by several processes has the same statistics but for rounding.
Tensor batch_norm(const Tensor& x, const Tensor& w, const Tensor& b, Tensor running_mean,
                  Tensor running_var, const BatchNormSettings& settings);

namespace kernels {
// C channels; P parts. All that is small is of the dtype acc_dtype(x).
// part (2C + 1): mean and sum of squared differences from it over the rows of x, and their number.
using BatchNormPart = void(Stream&, In x, Out part);
// stats (2C + 1): mean, 1 / std, and the number of rows, of parts (P, 2C + 1), which also update
// the running statistics; where parts is undefined, of these (and no number).
using BatchNormStats = void(Stream&, In parts, const BatchNormSettings&, Out running_mean,
                            Out running_var, Out stats);
using BatchNormFwd = void(Stream&, In x, In w, In b, In stats, Activation, Out y);
// sums (2, C): of dz, the gradient before the activation, and of dz * xhat: db and dw.
using BatchNormSums = void(Stream&, In dy, In x, In w, In b, In stats, Activation, Out sums,
                           Grad dw, Grad db);
// sums (P, 2, C); undefined where the statistics are not of this batch.
using BatchNormDx = void(Stream&, In dy, In x, In w, In b, In stats, In sums, Activation, Grad dx);
constinit inline Slot<BatchNormPart> batch_norm_part{"batch_norm.part"};
constinit inline Slot<BatchNormStats> batch_norm_stats{"batch_norm.stats"};
constinit inline Slot<BatchNormFwd> batch_norm_fwd{"batch_norm.fwd"};
constinit inline Slot<BatchNormSums> batch_norm_sums{"batch_norm.sums"};
constinit inline Slot<BatchNormDx> batch_norm_dx{"batch_norm.dx"};
}  // namespace kernels

}  // namespace sg
