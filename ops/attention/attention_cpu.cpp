#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention/attention_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/bf16_products.h"
#include "core/cpu/parallel.h"
#include "core/cpu/simd_register.h"
#include "ops/attention/amx-inl.h"
#include "ops/attention/attention.h"
#include "ops/attention/softmax-inl.h"
#include "ops/attention/units.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

using attention_cpu::Rect, attention_cpu::Unit, attention_cpu::Units;
using kernels::AttentionGeometry;

// Queries worked on at once. Their scores against all keys stay in cache, so they are fewer where
// keys are many. By tiles they are more: what one step stores, the next has to wait for.
constexpr int64_t kScores = 1 << 16;

template <class M, class T>
int64_t block_of(const Units& units) {
  const int64_t least = kTiles<M> ? 2 * amx::kRows : lanes<T>(), most = kTiles<M> ? 64 : 32;
  return std::clamp(kScores / units.max_keys() / least * least, least, most);
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

// f(unit, scratch) for all units; prefetch(unit) comes before f of the one before it.
template <class M, class Prefetch, class F>
void each_unit(const Units& units, const ScratchLayout& layout, const Prefetch& prefetch,
               const F& f) {
  const int64_t n = units.count(), parts = std::clamp<int64_t>(n, 1, num_threads());
  Tensor scratch = empty({parts, layout.bytes}, Dtype::u8);
  parallel_for(parts, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
    [[maybe_unused]] const typename M::Scope scope;
    for (int64_t p = begin; p < end; ++p)
      for (int64_t u = n * p / parts; u < n * (p + 1) / parts; ++u) {
        if (u + 1 < n * (p + 1) / parts) prefetch(units[u + 1]);
        f(units[u], Scratch{scratch.data<uint8_t>() + p * layout.bytes});
      }
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

// The columns of a unit's head in the maps of its image.
template <class S, class Map>
ImageColumns<S> queries_of(const AttentionGeometry& g, const Unit& u, const Map& q) {
  return {q, u.image, g.h * g.w, g.q_ld, g.q_column + u.head * g.head_dim};
}
template <class S, class Map>
ImageColumns<S> keys_of(const AttentionGeometry& g, const Unit& u, const Map& kv) {
  return {kv, u.image, g.key_h * g.key_w, g.kv_ld, g.kv_column + u.head * g.head_dim};
}
template <class S, class Map>
ImageColumns<S> values_of(const AttentionGeometry& g, const Unit& u, const Map& kv) {
  return {kv, u.image, g.key_h * g.key_w, g.kv_ld, g.kv_column + (g.heads + u.head) * g.head_dim};
}
template <class S, class Map>
ImageColumns<S> outputs_of(const AttentionGeometry& g, const Unit& u, const Map& out) {
  return {out, u.image, g.h * g.w, g.out_ld, g.out_column + u.head * g.head_dim};
}

// Tokens [begin, end) of a rectangle, d columns each. A head's columns of a token are a line or two
// of cache, far from those of the next: no prefetcher of the processor finds them. All is inlined:
// gcc drops calls that do nothing else.
template <class S>
HWY_INLINE void prefetch_tokens(const ImageColumns<const S>& map, const Rect& rect, int64_t begin,
                                int64_t end, int64_t d) {
  each_token(rect, begin, end, [&](int64_t, int64_t token) SG_INLINE_ATTR {
    const S* const row = map.data + token * map.ld;
    __builtin_prefetch(row), __builtin_prefetch(row + d - 1);
  });
}
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
// queries, or tiles of a sum over queries, are zero.
template <class M, class S, class E>
HWY_INLINE void load_queries(const ImageColumns<const S>& map, const Rect& rect, int64_t begin,
                             int64_t end, int64_t d, E* to, E* transposed, int64_t ld) {
  const int64_t rows = end - begin, padded = whole_vectors<E>(whole_sum<M>(rows));
  const int64_t row_elements = whole_tiles<M>(elements<E>(d));
  const int64_t row_ld = whole_vectors<E>(row_elements);
  load_tokens(map, rect, begin, end, d, to);
  std::fill_n(to + rows * row_ld, (padded - rows) * row_ld, E(0));
  if constexpr (kTiles<M>) {
    for (int64_t r = 0; r < padded; r += 16)
      for (int64_t c = 0; c < row_ld; c += 16)
        amx::transpose(to + r * row_ld + c, row_ld * 4, transposed + c * ld + r, ld * 4);
  } else {
    transpose(padded, row_elements, to, row_ld, transposed, ld);
  }
}
template <class E, class S, class T>
HWY_INLINE void store_tokens(const T* from, const ImageColumns<S>& map, const Rect& rect,
                             int64_t begin, int64_t end, int64_t d, T factor) {
  each_token(rect, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
    store_row<E>(d, from + i * whole_vectors<T>(d), factor, map.data + token * map.ld);
  });
}

// Rows (keys, d) as the right side of sums over keys.
template <class M, class E>
HWY_INLINE const E* across_keys(int64_t keys, int64_t d, const E* rows, E* scratch) {
  if constexpr (kTiles<M>) {
    across_rows_transposed(keys, d, rows, scratch, whole_tiles<M>(elements<E>(keys)));
    return scratch;
  } else {
    return across_rows(keys, d, rows, scratch);
  }
}
// Rows of elements across keys that fill up tiles.
template <class M, class E>
HWY_INLINE void clear_padding(int64_t keys, E* across, int64_t ld) {
  const int64_t rows = elements<E>(keys);
  std::fill_n(across + rows * ld, (whole_tiles<M>(rows) - rows) * ld, E(0));
}
// Stores, at the tokens of queries [begin, end), their factors times the sums over keys of weights
// (keys, queries), elements across keys, times those rows. `sums` is scratch.
template <class M, class S, class E, class T>
HWY_INLINE void store_sums_over_keys(int64_t keys, int64_t d, const E* weights, int64_t ld,
                                     const E* across, const T* factors, T* sums, E* rows,
                                     const ImageColumns<S>& map, const Rect& rect, int64_t begin,
                                     int64_t end) {
  const int64_t terms = whole_tiles<M>(elements<E>(keys)), queries = end - begin;
  if constexpr (kTiles<M>) {
    // Tiles take rows along the sum on the left: the transpose.
    matmul<M>(d, queries, terms, {across, terms, 1}, weights, ld, sums, ld);
    to_rows(queries, d, sums, ld, factors, rows);
    each_token(rect, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
      copy_row(d, rows + i * whole_vectors<E>(elements<E>(d)), map.data + token * map.ld);
    });
  } else {
    const int64_t dp = whole_vectors<T>(d);
    matmul<M>(queries, d, terms, {weights, 1, ld}, across, dp, sums, dp);
    each_token(rect, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
      store_row<E>(d, sums + i * dp, factors[i], map.data + token * map.ld);
    });
  }
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

// f.template operator()<S, M>(): S is the type in memory, M how matmuls multiply.
template <class F>
void with_types(Dtype dtype, const F& f) {
  dispatch<float, double, bf16>(dtype, "attention", [&]<class S>() {
    if constexpr (HWY_TARGET == HWY_AVX3 && std::is_same_v<S, bf16>) {
      if (has_amx()) return f.template operator()<S, Tiles>();
      if (has_bf16_products()) return f.template operator()<S, Pairs>();
    }
    f.template operator()<S, Numbers<AccType<S>>>();
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
  with_types(q.dtype(), [&]<class S, class M>() HWY_ATTR {
    using T = AccType<S>;
    using E = typename M::Element;
    const Units units(g);
    const int64_t d = g.head_dim, dp = whole_vectors<T>(d), n = g.h * g.w, nk = g.key_h * g.key_w;
    const int64_t row = whole_tiles<M>(elements<E>(d)), row_ld = whole_vectors<E>(row);
    const int64_t max_keys = units.max_keys(), key_rows = whole_tiles<M>(even(max_keys));
    const int64_t key_elements = whole_tiles<M>(elements<E>(max_keys)),
                  block = block_of<M, T>(units);
    const double scale = 1 / std::sqrt(double(d));
    const Exponential<T> exponential(scale);
    ScratchLayout layout;
    const auto k_at = layout.add<E>(key_rows * row_ld), v_at = layout.add<E>(key_rows * row_ld);
    const auto v_pairs_at = layout.add_pairs<E>(key_elements * dp);
    const auto q_at = layout.add<E>(block * row_ld), qt_at = layout.add<E>(row * block);
    const auto s_at = layout.add<T>(key_rows * block);
    const auto p_pairs_at = layout.add_pairs<E>(key_elements * block);
    const auto o_at = layout.add<T>(block * dp);
    const auto out_rows_at = layout.add_pairs<E>(block * row_ld);
    const auto weight_at = layout.add<T>(block), shift_at = layout.add<T>(block);
    const auto seen_at = layout.add<T>(max_keys * lanes<T>());
    QuerySums<T> sums(units, max_keys, bool(received), layout);
    const auto store_received = [&](const Unit& u, const T* seen) HWY_ATTR {
      T* const to = received.data<T>() + (u.image * g.heads + u.head) * nk;
      each_token(u.keys, 0, u.keys.count,
                 [&](int64_t i, int64_t token) HWY_ATTR { to[token] = seen[i]; });
    };

    const auto prefetch = [&](const Unit& u) SG_INLINE_ATTR {
      prefetch_tokens(keys_of<const S>(g, u, kv), u.keys, 0, u.keys.count, d);
      prefetch_tokens(values_of<const S>(g, u, kv), u.keys, 0, u.keys.count, d);
      prefetch_tokens(queries_of<const S>(g, u, q), u.queries, u.begin,
                      std::min(u.begin + block, u.end), d);
    };
    each_unit<M>(units, layout, prefetch, [&](const Unit& u, Scratch scratch) HWY_ATTR {
      E *const k = scratch[k_at], *const v = scratch[v_at];
      E *const qs = scratch[q_at], *const qt = scratch[qt_at];
      T *const s = scratch[s_at], *const o = scratch[o_at];
      T *const weight = scratch[weight_at], *const shift = scratch[shift_at];
      T* const seen = scratch[seen_at];
      E* const p = elements_of(s, scratch[p_pairs_at]);
      const int64_t keys = u.keys.count;
      const auto q_map = queries_of<const S>(g, u, q);
      const auto out_map = outputs_of<S>(g, u, out);
      const ImageColumns<T> lse_map(lse, u.image * g.heads + u.head, n, 1, 0);
      load_tokens(keys_of<const S>(g, u, kv), u.keys, 0, keys, d, k);
      load_tokens(values_of<const S>(g, u, kv), u.keys, 0, keys, d, v);
      const E* const v_across = across_keys<M>(keys, d, v, scratch[v_pairs_at]);
      clear_padding<M>(keys, p, block);
      if (received) std::fill_n(seen, keys * lanes<T>(), T(0));

      for (int64_t begin = u.begin; begin < u.end; begin += block) {
        const int64_t end = std::min(begin + block, u.end), rows = end - begin;
        load_queries<M>(q_map, u.queries, begin, end, d, qs, qt, block);
        prefetch_tokens(q_map, u.queries, end, std::min(end + block, u.end), d);
        matmul<M>(keys, rows, row, {k, row_ld, 1}, qt, block, s, block);
        if (received)
          exponentials<E, true>(keys, rows, block, exponential, s, p, shift, weight);
        else
          exponentials<E, false>(keys, rows, block, exponential, s, p, shift, weight);
        if (lse_map.data) {
          each_vector<T>(rows, [&](auto d, int64_t i) HWY_ATTR {
            const auto largest = hn::Mul(set(d, 1 / exponential.kLog), hn::Load(d, shift + i));
            hn::Store(hn::Add(largest, log<S>(d, hn::Load(d, weight + i))), d, shift + i);
          });
          each_token(u.queries, begin, end,
                     [&](int64_t i, int64_t token) HWY_ATTR { lse_map.data[token] = shift[i]; });
        }
        each_vector<T>(rows, [&](auto d, int64_t i) HWY_ATTR {
          hn::Store(hn::Div(set(d, 1), hn::Load(d, weight + i)), d, weight + i);
        });
        std::fill(weight + rows, weight + whole_vectors<T>(rows), T(0));
        if (received) add_seen(keys, rows, block, s, weight, seen);
        store_sums_over_keys<M>(keys, d, p, block, v_across, weight, o, scratch[out_rows_at],
                                out_map, u.queries, begin, end);
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
  with_types(q.dtype(), [&]<class S, class M>() HWY_ATTR {
    using T = AccType<S>;
    using E = typename M::Element;
    const Units units(g);
    const int64_t d = g.head_dim, dp = whole_vectors<T>(d), n = g.h * g.w;
    const int64_t row = whole_tiles<M>(elements<E>(d)), row_ld = whole_vectors<E>(row);
    const int64_t max_keys = units.max_keys(), key_rows = whole_tiles<M>(even(max_keys));
    const int64_t key_elements = whole_tiles<M>(elements<E>(max_keys)),
                  block = block_of<M, T>(units);
    const double scale = 1 / std::sqrt(double(d));
    const Exponential<T> exponential(scale);
    ScratchLayout layout;
    const auto k_at = layout.add<E>(key_rows * row_ld), v_at = layout.add<E>(key_rows * row_ld);
    const auto k_pairs_at = layout.add_pairs<E>(key_elements * dp);
    const auto q_at = layout.add<E>(block * row_ld), qt_at = layout.add<E>(row * block);
    const auto dout_at = layout.add<E>(block * row_ld), dout_t_at = layout.add<E>(row * block);
    const auto query_pairs_at = layout.add_pairs<E>(elements<E>(block) * dp);
    const auto s_at = layout.add<T>(key_rows * block);
    const auto ds_at = layout.add<T>(key_rows * block);
    const auto ds_across_at = layout.add_pairs<E>(key_elements * block);
    const auto dq_at = layout.add<T>(block * dp), shift_at = layout.add<T>(block);
    const auto dq_rows_at = layout.add_pairs<E>(block * row_ld);
    const auto factors_at = layout.add<T>(block);
    QuerySums<T> sums(units, 2 * key_rows * dp, true, layout);
    const auto store_dkv = [&](const Unit& u, const T* dk) HWY_ATTR {
      store_tokens<E>(dk, keys_of<S>(g, u, dkv), u.keys, 0, u.keys.count, d, T(scale));
      store_tokens<E>(dk + key_rows * dp, values_of<S>(g, u, dkv), u.keys, 0, u.keys.count, d,
                      T(1));
    };

    const auto prefetch = [&](const Unit& u) SG_INLINE_ATTR {
      const int64_t end = std::min(u.begin + block, u.end);
      prefetch_tokens(keys_of<const S>(g, u, kv), u.keys, 0, u.keys.count, d);
      prefetch_tokens(values_of<const S>(g, u, kv), u.keys, 0, u.keys.count, d);
      prefetch_tokens(queries_of<const S>(g, u, q), u.queries, u.begin, end, d);
      prefetch_tokens(outputs_of<const S>(g, u, dout), u.queries, u.begin, end, d);
    };
    each_unit<M>(units, layout, prefetch, [&](const Unit& u, Scratch scratch) HWY_ATTR {
      E *const k = scratch[k_at], *const v = scratch[v_at];
      E *const qs = scratch[q_at], *const qt = scratch[qt_at];
      E *const dos = scratch[dout_at], *const dos_t = scratch[dout_t_at];
      E* const query_pairs = scratch[query_pairs_at];
      T *const s = scratch[s_at], *const ds = scratch[ds_at];
      T *const dqs = scratch[dq_at], *const shift = scratch[shift_at];
      T* const factors = scratch[factors_at];
      T *const dk = sums.of(u, scratch), *const dv = dk + key_rows * dp;
      const E *const p_along = reinterpret_cast<E*>(s), *const ds_along = reinterpret_cast<E*>(ds);
      E* const ds_across = elements_of(ds, scratch[ds_across_at]);
      const int64_t keys = u.keys.count;
      const auto q_map = queries_of<const S>(g, u, q);
      const auto dq_map = queries_of<S>(g, u, dq);
      const auto dout_map = outputs_of<const S>(g, u, dout);
      const T* const lse_map = lse.data<T>() + (u.image * g.heads + u.head) * n;
      load_tokens(keys_of<const S>(g, u, kv), u.keys, 0, keys, d, k);
      load_tokens(values_of<const S>(g, u, kv), u.keys, 0, keys, d, v);
      const E* const k_across = across_keys<M>(keys, d, k, scratch[k_pairs_at]);
      clear_padding<M>(keys, ds_across, block);
      std::fill_n(factors, block, T(scale));
      std::fill_n(dk, sums.size, T(0));
      for (int64_t begin = u.begin; begin < u.end; begin += block) {
        const int64_t end = std::min(begin + block, u.end), rows = end - begin;
        const int64_t summed = whole_sum<M>(rows);
        load_queries<M>(q_map, u.queries, begin, end, d, qs, qt, block);
        load_queries<M>(dout_map, u.queries, begin, end, d, dos, dos_t, block);
        prefetch_tokens(q_map, u.queries, end, std::min(end + block, u.end), d);
        prefetch_tokens(dout_map, u.queries, end, std::min(end + block, u.end), d);
        matmul<M>(keys, summed, row, {k, row_ld, 1}, qt, block, s, block);
        matmul<M>(keys, summed, row, {v, row_ld, 1}, dos_t, block, ds, block);
        each_token(u.queries, begin, end, [&](int64_t i, int64_t token) HWY_ATTR {
          shift[i] = lse_map[token] * T(exponential.kLog);
        });
        std::fill(shift + rows, shift + whole_vectors<T>(summed), T(0));
        softmax_gradient(keys, summed, block, exponential, shift, s, ds, ds_across);
        store_sums_over_keys<M>(keys, d, ds_across, block, k_across, factors, dqs,
                                scratch[dq_rows_at], dq_map, u.queries, begin, end);
        const int64_t terms = elements<E>(summed);
        matmul<M, true>(keys, d, terms, {p_along, block, 1},
                        across_rows(summed, d, dos, query_pairs), dp, dv, dp);
        matmul<M, true>(keys, d, terms, {ds_along, block, 1},
                        across_rows(summed, d, qs, query_pairs), dp, dk, dp);
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
