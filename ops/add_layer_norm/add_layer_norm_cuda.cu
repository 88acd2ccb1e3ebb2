// One pass over memory each way, by the kernels of layer_norm (ops/layer_norm/rows_cuda.cuh): the
// sum is made, stored and normalized in registers; so is the gradient of the sum, which goes to x
// and, times keep, to the branch. Rows that registers do not hold take the two ops one by one.
#include "core/cuda/column_sums.cuh"
#include "core/profile.h"
#include "ops/add_layer_norm/add_layer_norm.h"
#include "ops/drop_path/drop_path.h"
#include "ops/layer_norm/layer_norm.h"
#include "ops/layer_norm/rows_cuda.cuh"

namespace sg {
namespace {

using namespace layer_norm_rows;

struct Keep {
  const float* data;  // or null
  int64_t rows;       // of a sample
  __device__ float of(int64_t row) const { return data ? data[row / rows] : 1.0f; }
};

// Source: x + keep * branch, stored as `sum` and rounded as it is there.
template <class T>
struct FromSum {
  static constexpr int kParts = 2;
  const T *x, *branch;
  Keep keep;
  T* sum;
  template <class R>
  __device__ void load(R (&r)[2], int64_t row, int c, bool there) const {
    r[0].load(x + row * c, c, there), r[1].load(branch + row * c, c, there);
  }
  template <class R>
  __device__ void finish(R (&r)[2], int64_t row, int c, bool there) const {
    if (!there) return;
    const float k = keep.of(row);
    R::each(c, [&](int v, int column) {
#pragma unroll
      for (int j = 0; j < R::N; ++j)
        r[0].at[v][j] = cuda::from_float<T>(
            fmaf(k, cuda::to_float(r[1].at[v][j]), cuda::to_float(r[0].at[v][j])));
      cuda::store<R::N>(sum + row * c + column, r[0].at[v]);
    });
  }
};

// Sink: dx = dy + the gradient, dbranch (+)= keep * dx, whose column sums are the gradient of the
// bias with which the branch ends.
template <class T>
struct ToBoth {
  static constexpr bool kSums = true;
  const T* dy;  // or null
  T* dx;
  Keep keep;
  cuda::GradPtr<T> dbranch;
  __device__ bool wants() const { return true; }
  __device__ float scale(int64_t row) const { return keep.of(row); }
  template <int N>
  __device__ void put(int64_t at, cuda::Vec<float, N>& d, float scale) const {
    if (dy) {
      const auto more = cuda::load_float<N>(dy + at);
#pragma unroll
      for (int j = 0; j < N; ++j) d[j] += more[j];
    }
    cuda::store_float<N>(dx + at, d);
#pragma unroll
    for (int j = 0; j < N; ++j) d[j] *= scale;
    if (dbranch) dbranch.put(at, d);
  }
};

// The two ops one by one pass over `maps` more maps like y; those of layer_norm count themselves.
void slow_path(const char* op, In y, int maps) {
  profile::slow_path(op, "passes of their own for the sum and the norm of rows too long or uneven",
                     double(maps) * double(y.bytes()), [&] { return y.shape().str(); });
}

Keep keep_of(In keep, int64_t rows) {
  return {keep ? keep.data<float>() : nullptr, keep && keep.numel() ? rows / keep.numel() : rows};
}

void forward(Stream& stream, In x, In branch, In keep, In w, In b, double eps, Out y, Out n,
             Out mean, Out rstd) {
  const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
  const Forward a{w.data<float>(),
                  b.data<float>(),
                  mean ? mean.data<float>() : nullptr,
                  rstd ? rstd.data<float>() : nullptr,
                  rows,
                  int(c),
                  float(eps),
                  false};
  dispatch<float, bf16>(x.dtype(), "add_layer_norm", [&]<class T>() {
    const FromSum<T> source{x.data<T>(), branch.data<T>(), keep_of(keep, rows), y.data<T>()};
    if (forward_rows(stream, "add_layer_norm.fwd", source, n.data<T>(), a)) return;
    slow_path("add_layer_norm.fwd", y, 1);
    kernels::drop_path_fwd(stream, x, branch, keep, y);
    kernels::layer_norm_fwd(stream, y, w, b, eps, Activation::none, n, mean, rstd);
  });
}

void backward(Stream& stream, In dy, In dn, In y, In keep, In w, In b, In mean, In rstd, Out dx,
              Grad dbranch, Out branch_sums, Grad dw, Grad db) {
  const int64_t c = y.dim(-1), rows = c ? y.numel() / c : 0;
  const Backward a{w.data<float>(),
                   b.data<float>(),
                   mean.data<float>(),
                   rstd.data<float>(),
                   nullptr,
                   rows,
                   int(c),
                   false};
  dispatch<float, bf16>(y.dtype(), "add_layer_norm", [&]<class T>() {
    const ToBoth<T> sink{dy ? dy.data<T>() : nullptr, dx.data<T>(), keep_of(keep, rows),
                         cuda::grad_ptr<T>(dbranch)};
    if (backward_rows<false>(stream, "add_layer_norm.bwd", dn.data<T>(), y.data<T>(), sink, a,
                             {dw, db, {branch_sums}}))
      return;
    slow_path("add_layer_norm.bwd", y, (dy ? 2 : 0) + (dbranch ? 1 : 0) + (branch_sums ? 1 : 0));
    if (dy) dx.copy_(dy);
    kernels::layer_norm_bwd(stream, dn, y, w, b, mean, rstd, Activation::none, {dx, dy.defined()},
                            dw, db);
    if (dbranch) kernels::drop_path_bwd(stream, dx, keep, dbranch);
    if (branch_sums)
      cuda::column_sums(stream, (dbranch ? dbranch.tensor : dx).template data<T>(), rows, c,
                        cuda::GradPtr<float>{branch_sums.data<float>(), false});
  });
}

const Register r0{kernels::add_layer_norm_fwd, DeviceType::cuda, forward};
const Register r1{kernels::add_layer_norm_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
