// What the mask head learns from: binary cross entropy with logits of the channel of the object's
// class alone.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// logits (P, h, w, K) f32, f64 or bf16; labels (P) i32 below K; targets (P, h, w) u8 of 0 and 1
// -> (1) of the dtype acc_dtype(logits): the mean over the P h w pixels, 0 where there are none.
// A label or target out of range throws ExitCode::data on the CPU; a device cannot report it: the
// loss becomes NaN. The gradient of all other channels is 0.
Tensor mask_loss(const Tensor& logits, const Tensor& labels, const Tensor& targets);

namespace kernels {
// parts (P, 1, 1): the sums of the RoIs, of the dtype of the loss, which is their sum * scale.
using MaskLossFwd = void(Stream&, In logits, In labels, In targets, double scale, Out parts,
                         Out loss);
using MaskLossBwd = void(Stream&, In dloss, In logits, In labels, In targets, double scale,
                         Grad dlogits);
constinit inline Slot<MaskLossFwd> mask_loss_fwd{"mask_loss.fwd"};
constinit inline Slot<MaskLossBwd> mask_loss_bwd{"mask_loss.bwd"};
}  // namespace kernels

}  // namespace sg
