// Adds one table to every image of a batch (the positional embedding).
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, C) f32, f64 or bf16; table (H, W, C) of the dtype acc_dtype(x) -> (B, H, W, C).
// The gradient of the table is the sum over the batch, in order.
Tensor add_pos_embed(const Tensor& x, const Tensor& table);

namespace kernels {
using AddPosEmbedFwd = void(Stream&, In x, In table, Out y);
using AddPosEmbedBwd = void(Stream&, In dy, Grad dtable);
constinit inline Slot<AddPosEmbedFwd> add_pos_embed_fwd{"add_pos_embed.fwd"};
constinit inline Slot<AddPosEmbedBwd> add_pos_embed_bwd{"add_pos_embed.bwd"};
}  // namespace kernels

}  // namespace sg
