// Importance-guided aggregation: chunks of consecutively ranked tokens become one token each,
//   y[j] = sum_k w[k] x[order[j r + k]] + b,   one (w, b) a region of the ranking.
#pragma once
#include <vector>

#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// Consecutive chunks with common length and weights.
struct Region {
  int64_t tokens;  // chunks, that is aggregated tokens
  int64_t r;       // ranks a chunk
};

constexpr int kMaxRegions = 8;

// x (B, H, W, C) f32, f64 or bf16; order (B, H * W) i32; for each region a weight (r) and a bias
// (1) of the dtype acc_dtype(x)
// -> (B, 1, L, C), L = sum of region.tokens. sum(tokens * r) = virtual_tokens + H * W: the first
// `virtual_tokens` ranks stand for tokens of zeros that are not in x. Chunks that would hold
// virtual tokens alone must be left out by the caller (region.tokens reduced, virtual_tokens
// reduced by the same ranks), which is what masking them as keys means.
// At most kMaxRegions regions. Gradients reach x, w and b, none the order.
Tensor aggregate(const Tensor& x, const Tensor& order, const std::vector<Region>& regions,
                 const std::vector<Tensor>& w, const std::vector<Tensor>& b,
                 int64_t virtual_tokens);

namespace kernels {
using AggregateFwd = void(Stream&, In x, In order, const std::vector<Region>&,
                          const std::vector<Tensor>& w, const std::vector<Tensor>& b,
                          int64_t virtual_tokens, Out y);
// Each token has one rank, so dx is written without conflicts.
using AggregateBwd = void(Stream&, In dy, In x, In order, const std::vector<Region>&,
                          const std::vector<Tensor>& w, int64_t virtual_tokens, Grad dx,
                          const std::vector<Grad>& dw, const std::vector<Grad>& db);
constinit inline Slot<AggregateFwd> aggregate_fwd{"aggregate.fwd"};
constinit inline Slot<AggregateBwd> aggregate_bwd{"aggregate.bwd"};
}  // namespace kernels

}  // namespace sg
