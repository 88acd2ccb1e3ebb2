#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention/attention_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd_register.h"
#include "ops/attention/attention.h"
#include "ops/attention/matmul-inl.h"
#include "ops/attention/units.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

using attention_cpu::Rect, attention_cpu::Unit, attention_cpu::Units;
using kernels::AttentionGeometry;

// Queries worked on at once. Their scores against all keys stay in cache, so they are fewer where
// keys are many. Scores lie as (keys, queries): softmax runs down the columns, a query to a lane,
// and never across a vector.
constexpr int64_t kQueries = 32, kScores = 1 << 16;

template <class T>
int64_t block_of(const Units& units) {
  return std::clamp(kScores / units.max_keys() / lanes<T>() * lanes<T>(), lanes<T>(), kQueries);
}

// Where the arrays of a thread lie in its scratch memory: add() returns the offset of one more.
struct ScratchLayout {
  int64_t size = 0;
  int64_t add(int64_t n) { return std::exchange(size, size + (n + 15) / 16 * 16); }
};

// f(unit, scratch) for all units.
template <class T, class F>
void each_unit(const Units& units, const ScratchLayout& layout, const F& f) {
  const int64_t n = units.count(), parts = std::clamp<int64_t>(n, 1, num_threads());
  Tensor scratch = empty({parts, layout.size}, dtype_of<T>());
  parallel_for(parts, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t p = begin; p < end; ++p)
      for (int64_t u = n * p / parts; u < n * (p + 1) / parts; ++u)
        f(units[u], scratch.data<T>() + p * layout.size);
  });
}

// f(i, token) for elements [begin, end) of a rectangle; i counts from begin.
template <class F>
HWY_INLINE void each_token(const Rect& r, int64_t begin, int64_t end, const F& f) {
  int64_t x = begin % r.w, row = r.token(begin - x);
  for (int64_t i = 0; i < end - begin; ++i) {
    f(i, row + x);
    if (++x == r.w) x = 0, row += r.stride;
  }
}

// The tokens of one image, of which only the columns from `column` on are meant; null without a t.
// S is const where they are only read.
template <class S>
struct ImageColumns {
  S* data;
  int64_t ld;
  template <class InOrOut>
  ImageColumns(const InOrOut& t, int64_t image, int64_t tokens, int64_t ld, int64_t column)
      : data(t ? t.template data<std::remove_const_t<S>>() + image * tokens * ld + column
               : nullptr),
        ld(ld) {}
};

// Tokens [begin, end) of a rectangle, times factor, as dense rows.
template <class S, class T>
HWY_INLINE void load_tokens(const ImageColumns<const S>& map, const Rect& rect, int64_t begin,
                            int64_t end, int64_t d, T factor, T* to) {
  each_token(rect, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
    copy_scaled(d, map.data + token * map.ld, factor, to + i * whole_vectors<T>(d));
  });
}
// The same rows and their transpose, whose rows are ld apart. Rows that fill up the last vector of
// queries are zero.
template <class S, class T>
HWY_INLINE void load_queries(const ImageColumns<const S>& map, const Rect& rect, int64_t begin,
                             int64_t end, int64_t d, T factor, T* to, T* transposed, int64_t ld) {
  const int64_t rows = end - begin, dp = whole_vectors<T>(d), padded = whole_vectors<T>(rows);
  load_tokens(map, rect, begin, end, d, factor, to);
  std::fill_n(to + rows * dp, (padded - rows) * dp, T(0));
  transpose(padded, d, to, dp, transposed, ld);
}
template <class S, class T>
HWY_INLINE void store_tokens(const T* from, const ImageColumns<S>& map, const Rect& rect,
                             int64_t begin, int64_t end, int64_t d, T factor) {
  each_token(rect, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
    copy_scaled(d, from + i * whole_vectors<T>(d), factor, map.data + token * map.ld);
  });
}

// What a unit sums over its queries, `size` elements. A unit with all queries of its window sums in
// its thread's scratch memory; one of several chunks has memory of its own until all are done.
template <class T>
struct QuerySums {
  int64_t chunks, size, offset;
  Tensor partial;
  QuerySums(const Units& units, int64_t size, bool wanted, ScratchLayout& layout)
      : chunks(units.chunks()), size(size), offset(chunks == 1 ? layout.add(size) : 0) {
    if (wanted && chunks > 1) partial = empty({units.count(), size}, dtype_of<T>());
  }
  T* of(const Unit& u, T* scratch) {
    return chunks == 1 ? scratch + offset : partial.data<T>() + u.index * size;
  }
  // store(unit, sums) for each window that was cut in chunks, their sums added in order.
  template <class F>
  void finish(const Units& units, const F& store) {
    if (chunks == 1) return;
    parallel_for(units.windows(), 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t i = begin; i < end; ++i) {
        const Unit u = units[i * chunks];
        T* const sums = of(u, nullptr);
        for (int64_t c = 1; c < chunks; ++c)
          for_lanes<T>(size, [&](auto d, int64_t j) HWY_ATTR {
            const auto more = hn::LoadU(d, sums + c * size + j);
            hn::StoreU(hn::Add(hn::LoadU(d, sums + j), more), d, sums + j);
          });
        store(u, sums);
      }
    });
  }
};

// e^x for x <= 0, for softmax, at half the cost of a general exp: 2^n 2^f with a minimax polynomial
// for |f| <= 1/2. Relative error 2e-7 + 1e-8 |x|; x below -60 is taken as -60, so that no result is
// denormal.
template <class D>
HWY_INLINE hn::Vec<D> exp_negative(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<hn::TFromD<D>, float>) {
    const hn::RebindToUnsigned<D> bits;
    const auto log2e = set(d, 1.44269504);
    const auto magic = set(d, 12582912.0);  // 1.5 * 2^23: adding it rounds to an integer
    x = hn::Max(set(d, -60.0), x);          // in this order x86 keeps NaN
    const auto shifted = hn::MulAdd(x, log2e, magic);
    const auto f = hn::MulSub(x, log2e, hn::Sub(shifted, magic));
    constexpr double c[] = {1.326472707e-03, 9.671512650e-03, 5.550733744e-02,
                            2.402224209e-01, 6.931469776e-01, 1.0};
    auto p = set(d, c[0]);
#pragma GCC unroll 8
    for (int i = 1; i < 6; ++i) p = hn::MulAdd(p, f, set(d, c[i]));
    // n sits in the low bits of `shifted`, and becomes an exponent.
    const auto n = hn::ShiftLeft<23>(hn::BitCast(bits, shifted));
    return hn::Mul(p, hn::BitCast(d, hn::Add(n, hn::BitCast(bits, set(d, 1.0)))));
  } else {
    return hn::IfThenElse(hn::IsNaN(x), x, exp(d, x));
  }
}

// Scores (keys, queries), rows ld apart -> exp(scores - top), and for each query top and the sum.
template <class T>
HWY_INLINE void exponentials(int64_t keys, int64_t queries, int64_t ld, T* scores, T* top, T* sum) {
  each_vector<T>(queries, [&](auto d, int64_t i) HWY_ATTR {
    T* const s = scores + i;
    auto most = hn::Load(d, s);
    for (int64_t j = 1; j < keys; ++j) most = hn::Max(most, hn::Load(d, s + j * ld));
    auto total = hn::Zero(d);
    for (int64_t j = 0; j < keys; ++j) {
      const auto e = exp_negative(d, hn::Sub(hn::Load(d, s + j * ld), most));
      hn::Store(e, d, s + j * ld);
      total = hn::Add(total, e);
    }
    hn::Store(most, d, top + i);
    hn::Store(total, d, sum + i);
  });
}

// Adds a block's probabilities (exponentials times the weight of their query) to `seen`, which has
// a vector a key: the sum of its lanes is the attention that the key receives.
template <class T>
HWY_INLINE void add_seen(int64_t keys, int64_t queries, int64_t ld, const T* exponentials,
                         const T* weight, T* seen) {
  each_vector<T>(queries, [&](auto d, int64_t i) HWY_ATTR {
    const auto w = hn::Load(d, weight + i);
    for (int64_t j = 0; j < keys; ++j) {
      T* const to = seen + j * lanes<T>();
      hn::Store(hn::MulAdd(w, hn::Load(d, exponentials + j * ld + i), hn::Load(d, to)), d, to);
    }
  });
}

// Scores -> probabilities p; dp -> p * (dp - sum(p * dp)), the gradient of the scores. All as
// (keys, queries).
template <class T>
HWY_INLINE void softmax_gradient(int64_t keys, int64_t queries, int64_t ld, const T* lse, T* scores,
                                 T* dp) {
  each_vector<T>(queries, [&](auto d, int64_t i) HWY_ATTR {
    T *const s = scores + i, *const g = dp + i;
    const auto shift = hn::Load(d, lse + i);
    auto total = hn::Zero(d);
    for (int64_t j = 0; j < keys; ++j) {
      const auto p = exp_negative(d, hn::Sub(hn::Load(d, s + j * ld), shift));
      hn::Store(p, d, s + j * ld);
      total = hn::MulAdd(p, hn::Load(d, g + j * ld), total);
    }
    for (int64_t j = 0; j < keys * ld; j += ld)
      hn::Store(hn::Mul(hn::Load(d, s + j), hn::Sub(hn::Load(d, g + j), total)), d, g + j);
  });
}

void forward(Stream&, In q, In kv, const AttentionGeometry& g, Out out, Out lse, Out received) {
  dispatch<float, double, bf16>(q.dtype(), "attention", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const Units units(g);
    const int64_t d = g.head_dim, dp = whole_vectors<T>(d), n = g.h * g.w, nk = g.key_h * g.key_w;
    const int64_t max_keys = units.max_keys(), block = block_of<T>(units);
    const T scale = T(1 / std::sqrt(double(d)));
    ScratchLayout layout;
    const int64_t k_at = layout.add(max_keys * dp), v_at = layout.add(max_keys * dp);
    const int64_t q_at = layout.add(block * dp), qt_at = layout.add(d * block);
    const int64_t s_at = layout.add(max_keys * block), o_at = layout.add(block * dp);
    const int64_t weight_at = layout.add(block), top_at = layout.add(block);
    const int64_t seen_at = layout.add(max_keys * lanes<T>());
    QuerySums<T> sums(units, max_keys, bool(received), layout);
    const auto store_received = [&](const Unit& u, const T* seen) HWY_ATTR {
      T* const to = received.data<T>() + (u.image * g.heads + u.head) * nk;
      each_token(u.keys, 0, u.keys.count,
                 [&](int64_t i, int64_t token) HWY_ATTR { to[token] = seen[i]; });
    };

    each_unit<T>(units, layout, [&](const Unit& u, T* scratch) HWY_ATTR {
      T *const k = scratch + k_at, *const v = scratch + v_at, *const qs = scratch + q_at;
      T *const qt = scratch + qt_at, *const s = scratch + s_at, *const o = scratch + o_at;
      T *const weight = scratch + weight_at, *const top = scratch + top_at;
      T* const seen = scratch + seen_at;
      const int64_t keys = u.keys.count;
      const ImageColumns<const S> k_map(kv, u.image, nk, g.kv_ld, g.kv_column + u.head * d);
      const ImageColumns<const S> v_map(kv, u.image, nk, g.kv_ld,
                                        g.kv_column + (g.heads + u.head) * d);
      const ImageColumns<const S> q_map(q, u.image, n, g.q_ld, g.q_column + u.head * d);
      const ImageColumns<S> out_map(out, u.image, n, g.out_ld, g.out_column + u.head * d);
      const ImageColumns<T> lse_map(lse, u.image * g.heads + u.head, n, 1, 0);
      load_tokens(k_map, u.keys, 0, keys, d, T(1), k);
      load_tokens(v_map, u.keys, 0, keys, d, T(1), v);
      if (received) std::fill_n(seen, keys * lanes<T>(), T(0));

      for (int64_t begin = u.begin; begin < u.end; begin += block) {
        const int64_t end = std::min(begin + block, u.end), rows = end - begin;
        load_queries(q_map, u.queries, begin, end, d, scale, qs, qt, block);
        matmul<T>(keys, rows, d, {k, dp, 1}, qt, block, s, block);
        exponentials(keys, rows, block, s, top, weight);
        if (lse_map.data)
          each_token(u.queries, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
            lse_map.data[token] = top[i] + std::log(weight[i]);
          });
        for (int64_t i = 0; i < rows; ++i) weight[i] = 1 / weight[i];
        std::fill(weight + rows, weight + whole_vectors<T>(rows), T(0));
        if (received) add_seen(keys, rows, block, s, weight, seen);
        matmul<T>(rows, d, keys, {s, 1, block}, v, dp, o, dp);
        each_token(u.queries, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
          copy_scaled(d, o + i * dp, weight[i], out_map.data + token * g.out_ld);
        });
      }
      if (!received) return;
      T* const sum = sums.of(u, scratch);
      const hn::ScalableTag<T> tag;
      for (int64_t j = 0; j < keys; ++j)
        sum[j] = hn::GetLane(hn::SumOfLanes(tag, hn::Load(tag, seen + j * lanes<T>())));
      if (sums.chunks == 1) store_received(u, sum);
    });
    if (received) sums.finish(units, store_received);
  });
}

// With p the probabilities, recomputed from the log-sum-exp:
//   dv = p^T dout,  dp = dout v^T,  ds = p (dp - rowsum(p dp)),
//   dq = ds k scale,  dk = ds^T q scale.
void backward(Stream&, In dout, In q, In kv, In lse, const AttentionGeometry& g, Out dq, Out dkv) {
  dispatch<float, double, bf16>(q.dtype(), "attention", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const Units units(g);
    const int64_t d = g.head_dim, dp = whole_vectors<T>(d), n = g.h * g.w, nk = g.key_h * g.key_w;
    const int64_t max_keys = units.max_keys(), block = block_of<T>(units);
    const T scale = T(1 / std::sqrt(double(d)));
    ScratchLayout layout;
    const int64_t k_at = layout.add(max_keys * dp), v_at = layout.add(max_keys * dp);
    const int64_t q_at = layout.add(block * dp), qt_at = layout.add(d * block);
    const int64_t dout_at = layout.add(block * dp), dout_t_at = layout.add(d * block);
    const int64_t s_at = layout.add(max_keys * block), ds_at = layout.add(max_keys * block);
    const int64_t dq_at = layout.add(block * dp), lse_at = layout.add(block);
    QuerySums<T> sums(units, 2 * max_keys * dp, true, layout);
    const auto store_dkv = [&](const Unit& u, const T* dk) HWY_ATTR {
      const ImageColumns<S> dk_map(dkv, u.image, nk, g.kv_ld, g.kv_column + u.head * d);
      const ImageColumns<S> dv_map(dkv, u.image, nk, g.kv_ld, g.kv_column + (g.heads + u.head) * d);
      store_tokens(dk, dk_map, u.keys, 0, u.keys.count, d, T(1));
      store_tokens(dk + max_keys * dp, dv_map, u.keys, 0, u.keys.count, d, T(1));
    };

    each_unit<T>(units, layout, [&](const Unit& u, T* scratch) HWY_ATTR {
      T *const k = scratch + k_at, *const v = scratch + v_at, *const qs = scratch + q_at;
      T *const qt = scratch + qt_at, *const dos = scratch + dout_at;
      T *const dos_t = scratch + dout_t_at, *const s = scratch + s_at, *const ds = scratch + ds_at;
      T *const dqs = scratch + dq_at, *const lses = scratch + lse_at;
      T *const dk = sums.of(u, scratch), *const dv = dk + max_keys * dp;
      const int64_t keys = u.keys.count;
      const ImageColumns<const S> k_map(kv, u.image, nk, g.kv_ld, g.kv_column + u.head * d);
      const ImageColumns<const S> v_map(kv, u.image, nk, g.kv_ld,
                                        g.kv_column + (g.heads + u.head) * d);
      const ImageColumns<const S> q_map(q, u.image, n, g.q_ld, g.q_column + u.head * d);
      const ImageColumns<S> dq_map(dq, u.image, n, g.q_ld, g.q_column + u.head * d);
      const ImageColumns<const S> dout_map(dout, u.image, n, g.out_ld, g.out_column + u.head * d);
      const T* const lse_map = lse.data<T>() + (u.image * g.heads + u.head) * n;
      load_tokens(k_map, u.keys, 0, keys, d, T(1), k);
      load_tokens(v_map, u.keys, 0, keys, d, T(1), v);
      std::fill_n(dk, sums.size, T(0));
      for (int64_t begin = u.begin; begin < u.end; begin += block) {
        const int64_t end = std::min(begin + block, u.end), rows = end - begin;
        load_queries(q_map, u.queries, begin, end, d, scale, qs, qt, block);
        load_queries(dout_map, u.queries, begin, end, d, T(1), dos, dos_t, block);
        matmul<T>(keys, rows, d, {k, dp, 1}, qt, block, s, block);
        matmul<T>(keys, rows, d, {v, dp, 1}, dos_t, block, ds, block);
        each_token(u.queries, begin, end,
                   [&](int64_t i, int64_t token) HWY_ATTR { lses[i] = lse_map[token]; });
        std::fill(lses + rows, lses + whole_vectors<T>(rows), T(0));
        softmax_gradient(keys, rows, block, lses, s, ds);
        matmul<T>(rows, d, keys, {ds, 1, block}, k, dp, dqs, dp);
        store_tokens(dqs, dq_map, u.queries, begin, end, d, scale);
        matmul<T>(keys, d, rows, {s, block, 1}, dos, dp, dv, dp, true);
        matmul<T>(keys, d, rows, {ds, block, 1}, qs, dp, dk, dp, true);
      }
      if (sums.chunks == 1) store_dkv(u, dk);
    });
    sums.finish(units, store_dkv);
  });
}

void spread(Stream&, In received, const AttentionGeometry& g, double factor, bool first,
            Out significance) {
  dispatch<float, double>(received.dtype(), "attention", [&]<class T>() HWY_ATTR {
    const int64_t nk = g.key_h * g.key_w;
    parallel_for(g.batch * g.h, 8, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t row = begin; row < end; ++row) {
        const T* const from =
            received.data<T>() + row / g.h * g.heads * nk + row % g.h / g.scale * g.key_w;
        T* const to = significance.data<T>() + row * g.w;
        for (int64_t x = 0; x < g.w; ++x) {
          T sum = 0;
          for (int head = 0; head < g.heads; ++head) sum += from[head * nk + x / g.scale];
          const T value = T(factor / g.heads) * sum;
          to[x] = first ? value : to[x] + value;
        }
      }
    });
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::attention_fwd, forward);
SG_REGISTER_SIMD(kernels::attention_bwd, backward);
SG_REGISTER_SIMD(kernels::spread_significance, spread);
}  // namespace
}  // namespace sg
#endif
