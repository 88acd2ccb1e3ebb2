#include "core/cpu/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <bit>
#include <climits>
#include <string_view>
#include <type_traits>

#include "core/cpu/add_into.h"
#include "core/cpu/amx_gemm.h"
#include "core/cpu/bf16_products.h"
#include "core/cpu/convert.h"
#include "core/cpu/one_thread.h"
#include "core/cpu/onednn.h"
#include "core/cpu/pack.h"
#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/error.h"

namespace sg {
namespace {

// Adds a bias to rows of c, `stride` apart.
template <class S, class C>
void add_bias(int64_t m, int64_t n, const S* bias, C* c, int64_t stride) {
  for (int64_t i = 0; i < m; ++i) add_into(bias, c + i * stride, n);
}

// c = a b + bias in one pass over c, a tenth faster than two. Valgrind reports that oneDNN 2.6
// reads up to 64 bytes past its own page-aligned copy of b; it ignores what it read there, and
// reads nothing outside our operands (tests/core/matmul_test.cpp).
void gemm_with_bias(int64_t m, int64_t n, int64_t k, GemmOperand<float> a, GemmOperand<float> b,
                    float* c, const float* bias) {
  const onednn::Key key{'g', m, n, k, a.stride, a.transposed, b.stride, b.transposed};
  onednn::Ready& ready = onednn::cached(key, [&] {
    using dnnl::memory;
    const auto layout = [](int64_t rows, int64_t columns, int64_t stride, bool transposed) {
      return memory::desc({rows, columns}, memory::data_type::f32,
                          transposed ? memory::dims{1, stride} : memory::dims{stride, 1});
    };
    const memory::desc a_layout = layout(m, k, a.stride, a.transposed),
                       b_layout = layout(k, n, b.stride, b.transposed),
                       bias_layout = layout(1, n, n, false), c_layout = layout(m, n, n, false);
    const dnnl::matmul::primitive_desc pd({a_layout, b_layout, bias_layout, c_layout},
                                          onednn::Ready::attributes(), onednn::engine());
    return onednn::Ready(dnnl::matmul(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_SRC, a_layout},
                          {DNNL_ARG_WEIGHTS, b_layout},
                          {DNNL_ARG_BIAS, bias_layout},
                          {DNNL_ARG_DST, c_layout}});
  });
  ready.run({a.data, b.data, bias, c});
}

void library_gemm(int64_t m, int64_t n, int64_t k, GemmOperand<float> a, GemmOperand<float> b,
                  float* c, int64_t stride, bool accumulate, const float* bias = nullptr) {
  const auto op = [](bool transposed) { return transposed ? 'T' : 'N'; };
  const auto status = dnnl_sgemm(op(a.transposed), op(b.transposed), m, n, k, 1, a.data, a.stride,
                                 b.data, b.stride, accumulate ? 1 : 0, c, stride);
  check(status == dnnl_success, "gemm: oneDNN failed with status {}", int(status));
  if (bias) add_bias(m, n, bias, c, stride);
}

template <class C>
void gemm_by_conversion(int64_t m, int64_t n, int64_t k, GemmOperand<bf16> a, GemmOperand<bf16> b,
                        C* c, int64_t stride, bool accumulate, const bf16* bias) {
  const auto widened = [](GemmOperand<bf16> x, int64_t rows, int64_t columns) {
    if (x.transposed) std::swap(rows, columns);
    Tensor wide = empty({rows, columns}, Dtype::f32);
    for (int64_t i = 0; i < rows; ++i)
      convert(x.data + i * x.stride, wide.data<float>() + i * columns, columns);
    return wide;
  };
  const Tensor wide_a = widened(a, m, k), wide_b = widened(b, k, n);
  Tensor sum = empty({m, n}, Dtype::f32);
  float* const to = sum.data<float>();
  library_gemm(m, n, k, {wide_a.data<float>(), wide_a.dim(1), a.transposed},
               {wide_b.data<float>(), wide_b.dim(1), b.transposed}, to, n, false);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      C& at = c[i * stride + j];
      at = C(to[i * n + j] + (accumulate ? float(at) : 0) + (bias ? float(bias[j]) : 0));
    }
}

void library_gemm(int64_t m, int64_t n, int64_t k, GemmOperand<double> a, GemmOperand<double> b,
                  double* c, int64_t stride, bool accumulate, const double* bias = nullptr) {
  const auto op = [](bool transposed) { return transposed ? CblasTrans : CblasNoTrans; };
  cblas_dgemm(CblasRowMajor, op(a.transposed), op(b.transposed), blasint(m), blasint(n), blasint(k),
              1, a.data, blasint(a.stride), b.data, blasint(b.stride), accumulate ? 1 : 0, c,
              blasint(stride));
  if (bias) add_bias(m, n, bias, c, stride);
}

// The layout that pack.h describes.
dnnl::memory::desc packed_desc(const PackedLayout& layout) {
  using Tag = dnnl::memory::format_tag;
  const Tag tag = layout.width() == 64   ? Tag::BA16a64b2a
                  : layout.width() == 48 ? Tag::BA16a48b2a
                  : layout.width() == 32 ? Tag::BA16a32b2a
                                         : Tag::BA16a16b2a;
  return {{layout.k, layout.n}, dnnl::memory::data_type::bf16, tag};
}

// The library's own where the processor multiplies bf16, else by f32 copies of the operands. Sums
// are of f32 either way, and rounded once where c is bf16. `packed` is b in the layout of pack.h.
template <class C>
void library_gemm(int64_t m, int64_t n, int64_t k, GemmOperand<bf16> a, GemmOperand<bf16> b, C* c,
                  int64_t stride, bool accumulate, const bf16* bias = nullptr,
                  const bf16* packed = nullptr) {
  if (!has_bf16_products()) return gemm_by_conversion(m, n, k, a, b, c, stride, accumulate, bias);
  using dnnl::memory;
  const auto type = std::is_same_v<C, bf16> ? memory::data_type::bf16 : memory::data_type::f32;
  const onednn::Key key{'b',
                        m,
                        n,
                        k,
                        a.stride,
                        a.transposed,
                        b.stride,
                        b.transposed,
                        stride,
                        int64_t(type),
                        accumulate,
                        bias != nullptr,
                        packed != nullptr};
  onednn::Ready& ready = onednn::cached(key, [&] {
    const auto operand = [](int64_t rows, int64_t columns, int64_t stride, bool transposed) {
      return memory::desc({rows, columns}, memory::data_type::bf16,
                          transposed ? memory::dims{1, stride} : memory::dims{stride, 1});
    };
    const memory::desc a_layout = operand(m, k, a.stride, a.transposed),
                       b_layout =
                           packed ? packed_desc({k, n}) : operand(k, n, b.stride, b.transposed),
                       bias_layout = bias ? operand(1, n, n, false) : memory::desc(),
                       c_layout({m, n}, type, memory::dims{stride, 1});
    dnnl::primitive_attr attributes = onednn::Ready::attributes();
    if (accumulate) {
      dnnl::post_ops sum;
      sum.append_sum();
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc pd({a_layout, b_layout, bias_layout, c_layout}, attributes,
                                          onednn::engine());
    // What else takes a packed b is a reference, a hundred times slower.
    check(!packed || std::string_view(pd.impl_info_str()).starts_with("brg"),
          "gemm: oneDNN has no fast kernel for ({}, {}) x ({}, {})", m, k, k, n);
    return onednn::Ready(dnnl::matmul(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_SRC, a_layout},
                          {DNNL_ARG_WEIGHTS, b_layout},
                          {DNNL_ARG_BIAS, bias_layout},
                          {DNNL_ARG_DST, c_layout}});
  });
  ready.run({a.data, packed ? packed : b.data, bias, c});
}

template <class S>
GemmOperand<S> rows_from(GemmOperand<S> a, int64_t row) {
  a.data += a.transposed ? row : row * a.stride;
  return a;
}
template <class S>
GemmOperand<S> columns_from(GemmOperand<S> a, int64_t column) {
  a.data += a.transposed ? column * a.stride : column;
  return a;
}

// Cuts c into panels of rows or of columns, which threads share: a power of two of them, so that
// the usual numbers of threads have equal shares. The sizes alone decide, so that the bits do not
// depend on the number of threads.
template <class S, class C>
void panels(int64_t m, int64_t n, int64_t k, GemmOperand<S> a, GemmOperand<S> b, C* c,
            bool accumulate, const S* bias) {
  // In bf16 oneDNN would copy b to its own layout in each panel of rows: it is packed once for all
  // of them, and even a few rows make a fast panel. With a transposed oneDNN has no fast kernel for
  // that.
  const bool can_pack = std::is_same_v<S, bf16> && has_bf16_products() && !a.transposed;
  constexpr int64_t kMost = 8, kLeast = 128, kLeastPacked = 24;
  const auto panels_of = [=](int64_t side, int64_t least) {
    return int64_t(std::bit_floor(uint64_t(std::clamp(side / least, int64_t{1}, kMost))));
  };
  const int64_t of_rows = panels_of(m, can_pack ? kLeastPacked : kLeast),
                of_columns = panels_of(n, kLeast);
  const bool columns = of_columns > of_rows;
  const int64_t side = columns ? n : m, count = std::max(of_rows, of_columns);
  const int64_t unit = can_pack && !columns ? 1 : 16;
  const auto begin_of = [&](int64_t panel) {
    return panel == count ? side : side * panel / count / unit * unit;
  };
  Tensor packed;
  if constexpr (std::is_same_v<S, bf16>)
    if (can_pack && !columns && count > 1) {
      const PackedLayout layout{k, n};
      packed = empty({layout.blocks(), layout.block_size()}, Dtype::bf16);
      pack(layout, b, packed.data<bf16>());
    }
  // oneDNN's fast kernel of bf16 knows no gaps between rows: a panel of columns goes through memory
  // of its own.
  const bool copied = std::is_same_v<S, bf16> && columns && b.transposed && !accumulate;
  Scratch<C> scratch(copied ? m * (n / count + 2 * unit) : 0);
  parallel_for(count, 1, [&](int64_t first, int64_t last) {
    const OneThread one;
    for (int64_t panel = first; panel < last; ++panel) {
      const int64_t begin = begin_of(panel), size = begin_of(panel + 1) - begin;
      const S* const panel_bias = bias && columns ? bias + begin : bias;
      if (copied) {
        C* const to = scratch.mine();
        library_gemm(m, size, k, a, columns_from(b, begin), to, size, false, panel_bias);
        for (int64_t i = 0; i < m; ++i)
          std::copy(to + i * size, to + (i + 1) * size, c + i * n + begin);
      } else if (columns) {
        library_gemm(m, size, k, a, columns_from(b, begin), c + begin, n, accumulate, panel_bias);
      } else if constexpr (std::is_same_v<S, bf16>) {
        library_gemm(size, n, k, rows_from(a, begin), b, c + begin * n, n, accumulate, bias,
                     packed ? packed.data<bf16>() : nullptr);
      } else {
        library_gemm(size, n, k, rows_from(a, begin), b, c + begin * n, n, accumulate, bias);
      }
    }
  });
}

// Products of k = 0, which the libraries refuse.
template <class S, class C>
void empty_sums(int64_t m, int64_t n, C* c, bool accumulate, const S* bias) {
  if (!accumulate) std::fill(c, c + m * n, C(0));
  if (bias) add_bias(m, n, bias, c, n);
}

template <class S>
void check_sides(int64_t m, int64_t n, int64_t k, GemmOperand<S> a, GemmOperand<S> b) {
  check(std::max({m, n, k, a.stride, b.stride}) <= INT_MAX,
        "gemm: ({}, {}) x ({}, {}) has a side longer than {}", m, k, k, n, INT_MAX);
}

}  // namespace

template <class S, class C>
void gemm(int64_t m, int64_t n, int64_t k, GemmOperand<S> a, GemmOperand<S> b, C* c,
          bool accumulate, const S* bias) {
  check_sides(m, n, k, a, b);
  if (m == 0 || n == 0) return;
  if constexpr (std::is_same_v<S, bf16>)
    if (k >= amx::kLeastTerms && has_amx()) return amx::gemm(m, n, k, a, b, c, accumulate, bias);
  if constexpr (std::is_same_v<S, float>)
    // For few rows the primitive's own copy of b costs more than the matmul.
    if (k > 0 && bias && !accumulate && m >= 32) return gemm_with_bias(m, n, k, a, b, c, bias);
  if (k > 0) return panels(m, n, k, a, b, c, accumulate, bias);
  empty_sums(m, n, c, accumulate, bias);
}

template <class S, class C>
void gemm_on_thread(int64_t m, int64_t n, int64_t k, GemmOperand<S> a, GemmOperand<S> b, C* c,
                    bool accumulate, const S* bias) {
  check_sides(m, n, k, a, b);
  if (m == 0 || n == 0) return;
  if constexpr (std::is_same_v<S, bf16>)
    if (k >= amx::kLeastTerms && has_amx())
      return amx::gemm_on_thread(m, n, k, a, b, c, accumulate, bias);
  const OneThread one;
  if (k > 0)
    library_gemm(m, n, k, a, b, c, n, accumulate, bias);
  else
    empty_sums(m, n, c, accumulate, bias);
}

#define SG_GEMM(S, C)                                                                         \
  template void gemm(int64_t, int64_t, int64_t, GemmOperand<S>, GemmOperand<S>, C*, bool,     \
                     const S*);                                                               \
  template void gemm_on_thread(int64_t, int64_t, int64_t, GemmOperand<S>, GemmOperand<S>, C*, \
                               bool, const S*)
SG_GEMM(float, float);
SG_GEMM(double, double);
SG_GEMM(bf16, bf16);
SG_GEMM(bf16, float);
#undef SG_GEMM

}  // namespace sg
