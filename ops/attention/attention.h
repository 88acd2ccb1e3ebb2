// Attention of every token to few keys, in groups of heads that may each have their own keys and
// windows, plus the locally enhanced position term (LePE) of the same tokens:
//   out = concat_heads softmax(q k^T / sqrt(d)) v + depthwise3x3(lepe) + lepe_b
// Scores live in registers and cache, never in memory; backward recomputes them from the saved
// log-sum-exp. At any map size: windows that stick out at the right or bottom simply hold fewer
// tokens (as if the map were padded, with padded keys masked and padded queries dropped).
#pragma once
#include <vector>

#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// Consecutive heads with common keys and values. Keys are a map (kh, kw), one key for each
// scale x scale square of tokens (kh = ceil(H / scale)), or any list of keys when `window` is 0.
struct HeadGroup {
  int heads = 0;
  int source = -1;     // where k and v lie: -1 columns of proj, i >= 0 columns of kv[i]
  int64_t column = 0;  // first of the 2 * heads * head_dim columns, ordered [k, v][head][d]
  int window = 0;      // keys a side of a window (queries: scale * window); 0: all see all keys
  int scale = 1;       // tokens a side that one key stands for
  // Weight of the group in the significance map: factor of the attention that a key receives, as a
  // mean over the heads. 0: the group does not count.
  double significance = 0;
};

struct AttentionSpec {
  int head_dim = 0;
  std::vector<HeadGroup> groups;  // in order of output channels
  int64_t lepe_column = 0;        // lepe = columns [lepe_column, + C) of proj
};

struct AttentionResult {
  Tensor out;  // (B, H, W, C), C = head_dim * all heads
  // (B, H, W), f32 (f64 for f64), detached; undefined if no group counts. For each group that
  // counts: head mean of the attention that the token's key receives, summed over the queries that
  // see it and divided by their number (window 0: H * W; else the constant (scale * window)^2, also
  // where a window is cut), times HeadGroup::significance; the groups add up.
  Tensor significance;
};

// proj (B, H, W, P): q of all heads in columns [0, C), and keys, values and lepe where `spec`
// says. kv[i]: (B, h, w, Q) maps or (B, 1, L, Q) lists. lepe_w (3, 3, C), lepe_b (C).
// f32, f64 or bf16 (lepe_w and lepe_b of the dtype acc_dtype(proj)), head_dim 1 to 64, any number
// of keys. Gradients reach every column of proj and kv; columns that `spec` does not name must
// not exist.
// In bf16 scores, softmax and all sums are f32, and probabilities and gradients of scores are
// rounded to bf16 where they are multiplied, on CUDA and where has_bf16_products(), whose products
// take denormals for zero. Other CPUs widen what they load to f32.
AttentionResult attention(const Tensor& proj, const std::vector<Tensor>& kv, const Tensor& lepe_w,
                          const Tensor& lepe_b, const AttentionSpec& spec);

namespace kernels {

// One group as kernels see it: every operand is columns of a map.
struct AttentionGeometry {
  int heads, head_dim;
  int64_t batch, h, w;     // queries
  int64_t key_h, key_w;    // keys
  int window, scale;       // as HeadGroup
  int64_t q_column, q_ld;  // q: columns of proj; out and dout use out_column, out_ld
  int64_t kv_column, kv_ld;
  int64_t out_column, out_ld;
};

// out: the group's columns. lse (B, heads, H * W): log-sum-exp of scaled scores, or undefined.
// attention_received (B, heads, key_h * key_w): the attention that each key receives, summed over
// the queries, or undefined.
using AttentionFwd = void(Stream&, In q, In kv, const AttentionGeometry&, Out out, Out lse,
                          Out attention_received);
// Overwrites the group's columns of dq (shape of q's tensor) and dkv (shape of kv's).
// `out` holds the heads' output alone, without LePE, only if saved so; delta (B, heads, H * W) =
// rowsum(dout * heads' output) is recomputed from probabilities inside.
using AttentionBwd = void(Stream&, In dout, In q, In kv, In lse, const AttentionGeometry&, Out dq,
                          Out dkv);
// significance (B, H, W) (+)= factor * mean over heads of attention_received, spread over
// scale x scale tokens; overwrites when `first`.
using SpreadSignificance = void(Stream&, In attention_received, const AttentionGeometry&,
                                double factor, bool first, Out significance);
constinit inline Slot<AttentionFwd> attention_fwd{"attention.fwd"};
constinit inline Slot<AttentionBwd> attention_bwd{"attention.bwd"};
constinit inline Slot<SpreadSignificance> spread_significance{"attention.spread"};
}  // namespace kernels

}  // namespace sg
