#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention/attention_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/bf16_products.h"
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

constexpr int64_t even(int64_t n) { return (n + 1) / 2 * 2; }

// The scratch memory of a thread, and where its arrays lie in it.
template <class X>
struct Place {
  int64_t offset;
};
struct Scratch {
  uint8_t* data;
  template <class X>
  X* operator[](Place<X> place) const {
    return reinterpret_cast<X*>(data + place.offset);
  }
};
struct ScratchLayout {
  int64_t bytes = 0;
  template <class X>
  Place<X> add(int64_t n) {
    const int64_t size = (n * int64_t(sizeof(X)) + 63) / 64 * 64;
    return {std::exchange(bytes, bytes + size)};
  }
  // An array that only pairs need.
  template <class E>
  Place<E> add_pairs(int64_t n) {
    return add<E>(kPairs<E> ? n : 0);
  }
};

// f(unit, scratch) for all units.
template <class F>
void each_unit(const Units& units, const ScratchLayout& layout, const F& f) {
  const int64_t n = units.count(), parts = std::clamp<int64_t>(n, 1, num_threads());
  Tensor scratch = empty({parts, layout.bytes}, Dtype::u8);
  parallel_for(parts, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t p = begin; p < end; ++p)
      for (int64_t u = n * p / parts; u < n * (p + 1) / parts; ++u)
        f(units[u], Scratch{scratch.data<uint8_t>() + p * layout.bytes});
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

// Tokens [begin, end) of a rectangle as dense rows of elements along d.
template <class S, class E>
HWY_INLINE void load_tokens(const ImageColumns<const S>& map, const Rect& rect, int64_t begin,
                            int64_t end, int64_t d, E* to) {
  const int64_t ld = whole_vectors<E>(elements<E>(d));
  each_token(rect, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
    load_row(d, map.data + token * map.ld, to + i * ld);
  });
}
// The same rows and their transpose, whose rows are ld apart. Rows that fill up the last vector of
// queries are zero.
template <class S, class E>
HWY_INLINE void load_queries(const ImageColumns<const S>& map, const Rect& rect, int64_t begin,
                             int64_t end, int64_t d, E* to, E* transposed, int64_t ld) {
  const int64_t rows = end - begin, padded = whole_vectors<E>(rows);
  const int64_t row_elements = elements<E>(d), row_ld = whole_vectors<E>(row_elements);
  load_tokens(map, rect, begin, end, d, to);
  std::fill_n(to + rows * row_ld, (padded - rows) * row_ld, E(0));
  transpose(padded, row_elements, to, row_ld, transposed, ld);
}
template <class E, class S, class T>
HWY_INLINE void store_tokens(const T* from, const ImageColumns<S>& map, const Rect& rect,
                             int64_t begin, int64_t end, int64_t d, T factor) {
  each_token(rect, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
    store_row<E>(d, from + i * whole_vectors<T>(d), factor, map.data + token * map.ld);
  });
}

// What a unit sums over its queries, `size` elements. A unit with all queries of its window sums in
// its thread's scratch memory; one of several chunks has memory of its own until all are done.
template <class T>
struct QuerySums {
  int64_t chunks, size;
  Place<T> place;
  Tensor partial;
  QuerySums(const Units& units, int64_t size, bool wanted, ScratchLayout& layout)
      : chunks(units.chunks()), size(size), place(layout.add<T>(chunks == 1 ? size : 0)) {
    if (wanted && chunks > 1) partial = empty({units.count(), size}, dtype_of<T>());
  }
  T* of(const Unit& u, Scratch scratch) {
    return chunks == 1 ? scratch[place] : partial.data<T>() + u.index * size;
  }
  // store(unit, sums) for each window that was cut in chunks, their sums added in order.
  template <class F>
  void finish(const Units& units, const F& store) {
    if (chunks == 1) return;
    parallel_for(units.windows(), 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t i = begin; i < end; ++i) {
        const Unit u = units[i * chunks];
        T* const sums = partial.data<T>() + u.index * size;
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

// e^(scale x) for x <= 0, for softmax, at half the cost of a general exp: 2^n 2^f with a minimax
// polynomial for |f| <= 1/2. Relative error 2e-7 + 6e-8 |scale x|; scale x below -60 is taken as
// -60, so that no result is denormal.
template <class T>
struct ScaledExp {
  T scale, log2_scale, lowest;
  explicit ScaledExp(double scale)
      : scale(T(scale)), log2_scale(T(scale * 1.44269504088896341)), lowest(T(-60 / scale)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, hn::Vec<D> x) const {
    if constexpr (std::is_same_v<T, float>) {
      const hn::RebindToUnsigned<D> bits;
      const auto factor = hn::Set(d, log2_scale);
      const auto magic = set(d, 12582912.0);  // 1.5 * 2^23: adding it rounds to an integer
      x = hn::Max(hn::Set(d, lowest), x);     // in this order x86 keeps NaN
      const auto shifted = hn::MulAdd(x, factor, magic);
      const auto f = hn::MulSub(x, factor, hn::Sub(shifted, magic));
      const auto p = polynomial(d, f, 1.326472707e-03, 9.671512650e-03, 5.550733744e-02,
                                2.402224209e-01, 6.931469776e-01, 1.0);
      // n sits in the low bits of `shifted`, and becomes an exponent.
      const auto n = hn::ShiftLeft<23>(hn::BitCast(bits, shifted));
      return hn::Mul(p, hn::BitCast(d, hn::Add(n, hn::BitCast(bits, set(d, 1.0)))));
    } else {
      return hn::IfThenElse(hn::IsNaN(x), x, exp(d, hn::Mul(x, hn::Set(d, scale))));
    }
  }
};

// Lanes of two rows, the first at `to`, as a row of elements across them: both rows, ld apart, or
// a row of pairs.
template <class D, class E>
HWY_INLINE void store_across(D d, hn::Vec<D> first, hn::Vec<D> second, int64_t ld, E* to) {
  if constexpr (kPairs<E>) {
    hn::Store(pairs_of(first, second), hn::RebindToUnsigned<D>(), to);
  } else {
    hn::Store(first, d, to), hn::Store(second, d, to + ld);
  }
}
// The same as pairs along each row, from lane i on.
template <class D>
HWY_INLINE void store_pairs_along(D, hn::Vec<D> first, hn::Vec<D> second, int64_t ld, int64_t i,
                                  Pair* to) {
  const hn::Rebind<uint16_t, D> d;
  hn::Store(to_bf16(first), d, reinterpret_cast<uint16_t*>(to) + i);
  hn::Store(to_bf16(second), d, reinterpret_cast<uint16_t*>(to + ld) + i);
}

// f(j, first(j), second(j + 1)) for rows in twos; after an odd number of them comes a row of zeros.
template <class D, class Row, class F>
HWY_INLINE void each_two_rows(D d, int64_t rows, const Row& row, const F& f) {
  int64_t j = 0;
  for (; j + 1 < rows; j += 2) {
    const auto first = row(j);
    f(j, first, row(j + 1));
  }
  if (j < rows) f(j, row(j), hn::Zero(d));
}

// Scores (keys, queries), rows ld apart -> exp(scores - top), times the scale, in p as elements
// across keys; and for each query top and the sum. With `keep` they replace the scores too.
template <class E, class T>
HWY_INLINE void exponentials(int64_t keys, int64_t queries, int64_t ld, const ScaledExp<T>& exp,
                             bool keep, T* scores, E* p, T* top, T* sum) {
  each_vector<T>(queries, [&](auto d, int64_t i) HWY_ATTR {
    T* const s = scores + i;
    auto most = hn::Load(d, s);
    for (int64_t j = 1; j < keys; ++j) most = hn::Max(most, hn::Load(d, s + j * ld));
    auto total = hn::Zero(d);
    each_two_rows(
        d, keys,
        [&](int64_t j) SG_INLINE_ATTR {
          const auto e = exp(d, hn::Sub(hn::Load(d, s + j * ld), most));
          if (kPairs<E> && keep) hn::Store(e, d, s + j * ld);
          total = hn::Add(total, e);
          return e;
        },
        [&](int64_t j, auto first, auto second)
            SG_INLINE_ATTR { store_across(d, first, second, ld, p + elements<E>(j) * ld + i); });
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

// Scores -> probabilities p; dp -> ds = p * (dp - sum(p * dp)), the gradient of the scaled scores.
// All are (keys, queries), rows ld apart. Pairs of them go to arrays of their own: along queries
// with half that distance, and across keys.
template <class E, class T>
HWY_INLINE void softmax_gradient(int64_t keys, int64_t queries, int64_t ld, const ScaledExp<T>& exp,
                                 const T* shift, T* scores, T* dp, E* p_along, E* ds_along,
                                 E* ds_across) {
  each_vector<T>(queries, [&](auto d, int64_t i) HWY_ATTR {
    T *const s = scores + i, *const g = dp + i;
    const auto top = hn::Load(d, shift + i);
    auto total = hn::Zero(d);
    each_two_rows(
        d, keys,
        [&](int64_t j) SG_INLINE_ATTR {
          const auto p = exp(d, hn::Sub(hn::Load(d, s + j * ld), top));
          total = hn::MulAdd(p, hn::Load(d, g + j * ld), total);
          return p;
        },
        [&](int64_t j, auto first, auto second) SG_INLINE_ATTR {
          store_across(d, first, second, ld, s + j * ld);
          if constexpr (kPairs<E>)
            store_pairs_along(d, first, second, ld / 2, i, p_along + j * ld / 2);
        });
    each_two_rows(
        d, keys,
        [&](int64_t j) SG_INLINE_ATTR {
          return hn::Mul(hn::Load(d, s + j * ld), hn::Sub(hn::Load(d, g + j * ld), total));
        },
        [&](int64_t j, auto first, auto second) SG_INLINE_ATTR {
          store_across(d, first, second, ld, ds_across + elements<E>(j) * ld + i);
          if constexpr (kPairs<E>)
            store_pairs_along(d, first, second, ld / 2, i, ds_along + j * ld / 2);
        });
  });
}

// f.template operator()<S, E>(): S is the type in memory, E what matmuls multiply.
template <class F>
void with_types(Dtype dtype, const F& f) {
  dispatch<float, double, bf16>(dtype, "attention", [&]<class S>() {
    if constexpr (HWY_TARGET == HWY_AVX3 && std::is_same_v<S, bf16>)
      if (has_bf16_products()) return f.template operator()<S, Pair>();
    f.template operator()<S, AccType<S>>();
  });
}

// Where the numbers of an array lie as elements: in `pairs`, or there, if an element is a number.
template <class E, class T>
E* elements_of(T* numbers, E* pairs) {
  if constexpr (kPairs<E>)
    return pairs;
  else
    return numbers;
}

void forward(Stream&, In q, In kv, const AttentionGeometry& g, Out out, Out lse, Out received) {
  with_types(q.dtype(), [&]<class S, class E>() HWY_ATTR {
    using T = AccType<S>;
    const Units units(g);
    const int64_t d = g.head_dim, dp = whole_vectors<T>(d), n = g.h * g.w, nk = g.key_h * g.key_w;
    const int64_t row = elements<E>(d), row_ld = whole_vectors<E>(row);
    const int64_t max_keys = units.max_keys(), block = block_of<T>(units);
    const double scale = 1 / std::sqrt(double(d));
    const ScaledExp<T> scaled_exp(scale);
    ScratchLayout layout;
    const auto k_at = layout.add<E>(max_keys * row_ld), v_at = layout.add<E>(max_keys * row_ld);
    const auto v_pairs_at = layout.add_pairs<E>(elements<E>(max_keys) * dp);
    const auto q_at = layout.add<E>(block * row_ld), qt_at = layout.add<E>(row * block);
    const auto s_at = layout.add<T>(even(max_keys) * block);
    const auto p_pairs_at = layout.add_pairs<E>(elements<E>(max_keys) * block);
    const auto o_at = layout.add<T>(block * dp);
    const auto weight_at = layout.add<T>(block), top_at = layout.add<T>(block);
    const auto seen_at = layout.add<T>(max_keys * lanes<T>());
    QuerySums<T> sums(units, max_keys, bool(received), layout);
    const auto store_received = [&](const Unit& u, const T* seen) HWY_ATTR {
      T* const to = received.data<T>() + (u.image * g.heads + u.head) * nk;
      each_token(u.keys, 0, u.keys.count,
                 [&](int64_t i, int64_t token) HWY_ATTR { to[token] = seen[i]; });
    };

    each_unit(units, layout, [&](const Unit& u, Scratch scratch) HWY_ATTR {
      E *const k = scratch[k_at], *const v = scratch[v_at];
      E *const qs = scratch[q_at], *const qt = scratch[qt_at];
      T *const s = scratch[s_at], *const o = scratch[o_at];
      T *const weight = scratch[weight_at], *const top = scratch[top_at];
      T* const seen = scratch[seen_at];
      E* const p = elements_of(s, scratch[p_pairs_at]);
      const int64_t keys = u.keys.count;
      const ImageColumns<const S> k_map(kv, u.image, nk, g.kv_ld, g.kv_column + u.head * d);
      const ImageColumns<const S> v_map(kv, u.image, nk, g.kv_ld,
                                        g.kv_column + (g.heads + u.head) * d);
      const ImageColumns<const S> q_map(q, u.image, n, g.q_ld, g.q_column + u.head * d);
      const ImageColumns<S> out_map(out, u.image, n, g.out_ld, g.out_column + u.head * d);
      const ImageColumns<T> lse_map(lse, u.image * g.heads + u.head, n, 1, 0);
      load_tokens(k_map, u.keys, 0, keys, d, k);
      load_tokens(v_map, u.keys, 0, keys, d, v);
      const E* const v_across = across_rows(keys, d, v, scratch[v_pairs_at]);
      if (received) std::fill_n(seen, keys * lanes<T>(), T(0));

      for (int64_t begin = u.begin; begin < u.end; begin += block) {
        const int64_t end = std::min(begin + block, u.end), rows = end - begin;
        load_queries(q_map, u.queries, begin, end, d, qs, qt, block);
        matmul<E>(keys, rows, row, {k, row_ld, 1}, qt, block, s, block);
        exponentials(keys, rows, block, scaled_exp, bool(received), s, p, top, weight);
        if (lse_map.data)
          each_token(u.queries, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
            lse_map.data[token] = T(scale) * top[i] + std::log(weight[i]);
          });
        for (int64_t i = 0; i < rows; ++i) weight[i] = 1 / weight[i];
        std::fill(weight + rows, weight + whole_vectors<T>(rows), T(0));
        if (received) add_seen(keys, rows, block, s, weight, seen);
        matmul<E>(rows, d, elements<E>(keys), {p, 1, block}, v_across, dp, o, dp);
        each_token(u.queries, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
          store_row<E>(d, o + i * dp, weight[i], out_map.data + token * g.out_ld);
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
  with_types(q.dtype(), [&]<class S, class E>() HWY_ATTR {
    using T = AccType<S>;
    const Units units(g);
    const int64_t d = g.head_dim, dp = whole_vectors<T>(d), n = g.h * g.w, nk = g.key_h * g.key_w;
    const int64_t row = elements<E>(d), row_ld = whole_vectors<E>(row);
    const int64_t max_keys = units.max_keys(), block = block_of<T>(units);
    const int64_t along_ld = elements<E>(block);  // of scores as elements along queries
    const double scale = 1 / std::sqrt(double(d));
    const ScaledExp<T> scaled_exp(scale);
    ScratchLayout layout;
    const auto k_at = layout.add<E>(max_keys * row_ld), v_at = layout.add<E>(max_keys * row_ld);
    const auto k_pairs_at = layout.add_pairs<E>(elements<E>(max_keys) * dp);
    const auto q_at = layout.add<E>(block * row_ld), qt_at = layout.add<E>(row * block);
    const auto dout_at = layout.add<E>(block * row_ld), dout_t_at = layout.add<E>(row * block);
    const auto query_pairs_at = layout.add_pairs<E>(along_ld * dp);
    const auto s_at = layout.add<T>(even(max_keys) * block);
    const auto ds_at = layout.add<T>(even(max_keys) * block);
    const auto p_along_at = layout.add_pairs<E>(even(max_keys) * along_ld);
    const auto ds_along_at = layout.add_pairs<E>(even(max_keys) * along_ld);
    const auto ds_across_at = layout.add_pairs<E>(elements<E>(max_keys) * block);
    const auto dq_at = layout.add<T>(block * dp), lse_at = layout.add<T>(block);
    QuerySums<T> sums(units, 2 * max_keys * dp, true, layout);
    const auto store_dkv = [&](const Unit& u, const T* dk) HWY_ATTR {
      const ImageColumns<S> dk_map(dkv, u.image, nk, g.kv_ld, g.kv_column + u.head * d);
      const ImageColumns<S> dv_map(dkv, u.image, nk, g.kv_ld, g.kv_column + (g.heads + u.head) * d);
      store_tokens<E>(dk, dk_map, u.keys, 0, u.keys.count, d, T(scale));
      store_tokens<E>(dk + max_keys * dp, dv_map, u.keys, 0, u.keys.count, d, T(1));
    };

    each_unit(units, layout, [&](const Unit& u, Scratch scratch) HWY_ATTR {
      E *const k = scratch[k_at], *const v = scratch[v_at];
      E *const qs = scratch[q_at], *const qt = scratch[qt_at];
      E *const dos = scratch[dout_at], *const dos_t = scratch[dout_t_at];
      E* const query_pairs = scratch[query_pairs_at];
      T *const s = scratch[s_at], *const ds = scratch[ds_at];
      T *const dqs = scratch[dq_at], *const lses = scratch[lse_at];
      T *const dk = sums.of(u, scratch), *const dv = dk + max_keys * dp;
      E* const p_along = elements_of(s, scratch[p_along_at]);
      E* const ds_along = elements_of(ds, scratch[ds_along_at]);
      E* const ds_across = elements_of(ds, scratch[ds_across_at]);
      const int64_t keys = u.keys.count;
      const ImageColumns<const S> k_map(kv, u.image, nk, g.kv_ld, g.kv_column + u.head * d);
      const ImageColumns<const S> v_map(kv, u.image, nk, g.kv_ld,
                                        g.kv_column + (g.heads + u.head) * d);
      const ImageColumns<const S> q_map(q, u.image, n, g.q_ld, g.q_column + u.head * d);
      const ImageColumns<S> dq_map(dq, u.image, n, g.q_ld, g.q_column + u.head * d);
      const ImageColumns<const S> dout_map(dout, u.image, n, g.out_ld, g.out_column + u.head * d);
      const T* const lse_map = lse.data<T>() + (u.image * g.heads + u.head) * n;
      load_tokens(k_map, u.keys, 0, keys, d, k);
      load_tokens(v_map, u.keys, 0, keys, d, v);
      const E* const k_across = across_rows(keys, d, k, scratch[k_pairs_at]);
      std::fill_n(dk, sums.size, T(0));
      for (int64_t begin = u.begin; begin < u.end; begin += block) {
        const int64_t end = std::min(begin + block, u.end), rows = end - begin;
        load_queries(q_map, u.queries, begin, end, d, qs, qt, block);
        load_queries(dout_map, u.queries, begin, end, d, dos, dos_t, block);
        matmul<E>(keys, rows, row, {k, row_ld, 1}, qt, block, s, block);
        matmul<E>(keys, rows, row, {v, row_ld, 1}, dos_t, block, ds, block);
        each_token(u.queries, begin, end,
                   [&](int64_t i, int64_t token) HWY_ATTR { lses[i] = lse_map[token] / T(scale); });
        std::fill(lses + rows, lses + whole_vectors<T>(rows), T(0));
        softmax_gradient(keys, rows, block, scaled_exp, lses, s, ds, p_along, ds_along, ds_across);
        matmul<E>(rows, d, elements<E>(keys), {ds_across, 1, block}, k_across, dp, dqs, dp);
        store_tokens<E>(dqs, dq_map, u.queries, begin, end, d, T(scale));
        matmul<E>(keys, d, elements<E>(rows), {p_along, along_ld, 1},
                  across_rows(rows, d, dos, query_pairs), dp, dv, dp, true);
        matmul<E>(keys, d, elements<E>(rows), {ds_along, along_ld, 1},
                  across_rows(rows, d, qs, query_pairs), dp, dk, dp, true);
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
