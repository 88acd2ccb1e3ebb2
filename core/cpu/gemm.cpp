#include "core/cpu/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <climits>

#include "core/cpu/onednn.h"
#include "core/cpu/parallel.h"
#include "core/error.h"

namespace sg {
namespace {

// A product with a bias: a pass over c that adds it would cost up to a quarter of the product.
void product_with_bias(int64_t m, int64_t n, int64_t k, Operand<float> a, Operand<float> b,
                       float* c, bool accumulate, const float* bias) {
  const onednn::Key key{'g', m, n, k, a.stride, a.transposed, b.stride, b.transposed, accumulate};
  onednn::Ready& ready = onednn::cached(key, [&] {
    using Desc = dnnl::memory::desc;
    const auto layout = [](int64_t rows, int64_t columns, int64_t stride, bool transposed) {
      return Desc({rows, columns}, dnnl::memory::data_type::f32,
                  transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1});
    };
    const Desc a_desc = layout(m, k, a.stride, a.transposed),
               b_desc = layout(k, n, b.stride, b.transposed), c_desc = layout(m, n, n, false),
               bias_desc = layout(1, n, n, false);
    auto attributes = onednn::Ready::attributes();
    if (accumulate) {
      dnnl::post_ops sum;
      sum.append_sum();
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc pd({a_desc, b_desc, bias_desc, c_desc}, attributes,
                                          onednn::engine());
    return onednn::Ready(dnnl::matmul(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_SRC, a_desc},
                          {DNNL_ARG_WEIGHTS, b_desc},
                          {DNNL_ARG_BIAS, bias_desc},
                          {DNNL_ARG_DST, c_desc}});
  });
  ready.run({a.data, b.data, bias, c});
}

void product(int64_t m, int64_t n, int64_t k, Operand<float> a, Operand<float> b, float* c,
             bool accumulate, const float* bias) {
  if (bias) return product_with_bias(m, n, k, a, b, c, accumulate, bias);
  const auto op = [](bool transposed) { return transposed ? 'T' : 'N'; };
  const auto status = dnnl_sgemm(op(a.transposed), op(b.transposed), m, n, k, 1, a.data, a.stride,
                                 b.data, b.stride, accumulate ? 1 : 0, c, n);
  check(status == dnnl_success, "gemm: oneDNN failed with status {}", int(status));
}

void product(int64_t m, int64_t n, int64_t k, Operand<double> a, Operand<double> b, double* c,
             bool accumulate, const double* bias) {
  if (bias)
    parallel_for(m, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < n; ++j) c[i * n + j] = bias[j] + (accumulate ? c[i * n + j] : 0);
    });
  const auto op = [](bool transposed) { return transposed ? CblasTrans : CblasNoTrans; };
  cblas_dgemm(CblasRowMajor, op(a.transposed), op(b.transposed), blasint(m), blasint(n), blasint(k),
              1, a.data, blasint(a.stride), b.data, blasint(b.stride), accumulate || bias ? 1 : 0,
              c, blasint(n));
}

}  // namespace

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, Operand<T> a, Operand<T> b, T* c, bool accumulate,
          const T* bias) {
  check(std::max({m, n, k, a.stride, b.stride}) <= INT_MAX,
        "gemm: ({}, {}) x ({}, {}) has a side longer than {}", m, k, k, n, INT_MAX);
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (int64_t i = 0; i < m * n; ++i) c[i] = (accumulate ? c[i] : 0) + (bias ? bias[i % n] : 0);
    return;
  }
  product(m, n, k, a, b, c, accumulate, bias);
}

template void gemm(int64_t, int64_t, int64_t, Operand<float>, Operand<float>, float*, bool,
                   const float*);
template void gemm(int64_t, int64_t, int64_t, Operand<double>, Operand<double>, double*, bool,
                   const double*);

}  // namespace sg
