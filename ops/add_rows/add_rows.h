// Adds one table to every image of a batch (the position table).
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, C) f32, f64 or bf16; table (H, W, C) of the dtype wide(x) -> (B, H, W, C).
// The gradient of the table is the sum over the batch, in order.
Tensor add_rows(const Tensor& x, const Tensor& table);

namespace kernels {
using AddRowsFwd = void(Stream&, In x, In table, Out y);
using AddRowsBwd = void(Stream&, In dy, Grad dtable);
constinit inline Slot<AddRowsFwd> add_rows_fwd{"add_rows.fwd"};
constinit inline Slot<AddRowsBwd> add_rows_bwd{"add_rows.bwd"};
}  // namespace kernels

}  // namespace sg
