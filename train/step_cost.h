// Memory and multiply-adds of a training step, estimated before the first one.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "core/box.h"
#include "nn/parameters.h"

namespace sg::train {

struct StepCost {
  double macs = 0, usual_macs = 0;  // forward, an image: of this size, and of the model's own
  double bytes = 0;                 // an image of a batch, with a margin
  double fixed_bytes = 0;           // besides, whatever the batch
  int64_t multiple = 1;             // batches are multiples of it: mixing takes whole groups

  double of_batch(int64_t batch) const { return fixed_bytes + double(batch) * bytes; }
  int64_t batch_that_fits(double available) const;  // 0: not even `multiple` images
};

// Measured by forward and backward of `batch` images of this size, (B, H, W, 3), whose loss is
// loss(images). For images larger than the model's own (`usual_side`), extrapolated from three
// smaller sizes in the number of pixels: operations by a parabola, bytes by a line. The margin
// covers what the allocator and the loader hold besides. On the CPU; gradients of the model are
// overwritten.
using LossOfImages = std::function<Tensor(const Tensor& images)>;
StepCost measure_step_cost(nn::ParameterStore& parameters, const LossOfImages& loss, int usual_side,
                           ImageSize size, int64_t batch = 1);

// "a step takes ... times the operations ..." where an image takes much more than the usual; else
// "".
std::string note_of_cost(const StepCost& cost, ImageSize size, int64_t usual_side);
// Throws ExitCode::failure, with bytes and the batch that fits, where memory cannot hold a step.
void check_memory(const StepCost& cost, int64_t batch, ImageSize size, double available);

// What to do after memory ran out in a step of `batch` images, `available` bytes being left without
// its tensors: names a batch where the cost of one is known and a smaller one fits.
std::string smaller_batch(const std::optional<StepCost>& cost, int64_t batch, double available);

}  // namespace sg::train
