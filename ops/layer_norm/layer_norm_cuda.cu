// One pass over memory each way: forward reads x and writes y, backward reads dy, x (and dx, where
// it adds to it) and writes dx. See rows_cuda.cuh.
//
// Rows that registers do not hold, or of no whole vectors, take a warp each, which reads them
// several times.
#include "core/profile.h"
#include "ops/layer_norm/layer_norm.h"
#include "ops/layer_norm/rows_cuda.cuh"

namespace sg {
namespace {

using namespace layer_norm_rows;

// Any row, from memory.
template <class T>
__global__ void __launch_bounds__(kThreads) forward_any_kernel(const T* x, T* y, Forward a) {
  const int lane = threadIdx.x % cuda::kWarp;
  for (int64_t row = Rows<cuda::kWarp>::first(1); row < a.rows;
       row += Rows<cuda::kWarp>::stride(1)) {
    const T* const from = x + row * a.c;
    const float shift = cuda::to_float(from[0]);
    float sum = 0, square = 0;
    for (int i = lane; i < a.c; i += cuda::kWarp) sum += cuda::to_float(from[i]) - shift;
    const float mean = shift + cuda::warp_sum(sum) / float(a.c);
    for (int i = lane; i < a.c; i += cuda::kWarp) {
      const float d = cuda::to_float(from[i]) - mean;
      square += d * d;
    }
    const float rstd = 1.0f / sqrtf(cuda::warp_sum(square) / float(a.c) + a.eps);
    for (int i = lane; i < a.c; i += cuda::kWarp) {
      const float z = fmaf((cuda::to_float(from[i]) - mean) * rstd, a.w[i], a.b[i]);
      y[row * a.c + i] = cuda::from_float<T>(a.gelu ? cuda::gelu<T>(z) : z);
    }
    if (a.mean && lane == 0) a.mean[row] = mean, a.rstd[row] = rstd;
  }
}

// A block is one warp; each lane adds its columns of dw and db in the block's part, in memory.
template <class T>
__global__ void __launch_bounds__(cuda::kWarp)
    backward_any_kernel(const T* dy, const T* x, cuda::GradPtr<T> dx, Backward a) {
  float* const dw = a.parts ? a.parts + int64_t{blockIdx.x} * 2 * a.c : nullptr;
  float* const db = dw ? dw + a.c : nullptr;
  const int lane = int(threadIdx.x);
  for (int i = lane; dw && i < a.c; i += cuda::kWarp) dw[i] = db[i] = 0;
  for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const float mean = a.mean[row], rstd = a.rstd[row];
    // f(i, xhat, dz) for the lane's elements.
    const auto each = [&](const auto& f) {
      for (int i = lane; i < a.c; i += cuda::kWarp) {
        const float xhat = (cuda::to_float(x[row * a.c + i]) - mean) * rstd;
        float dz = cuda::to_float(dy[row * a.c + i]);
        if (a.gelu) dz *= cuda::gelu_grad<T>(fmaf(xhat, a.w[i], a.b[i]));
        f(i, xhat, dz);
      }
    };
    float g_sum = 0, gx_sum = 0;
    each([&](int i, float xhat, float dz) {
      if (dw) dw[i] = fmaf(dz, xhat, dw[i]), db[i] += dz;
      g_sum += dz * a.w[i], gx_sum += dz * a.w[i] * xhat;
    });
    if (!dx) continue;
    const float g_mean = cuda::warp_sum(g_sum) / float(a.c);
    const float gx_mean = cuda::warp_sum(gx_sum) / float(a.c);
    each([&](int i, float xhat, float dz) {
      dx.put(row * a.c + i, rstd * fmaf(-xhat, gx_mean, dz * a.w[i] - g_mean));
    });
  }
}

// Counts the maps of the size of x that are read `again` where a warp takes a row.
void slow_path(const char* op, In x, int again) {
  profile::slow_path(op, "rows too long or uneven for registers are read several times",
                     double(again) * double(x.bytes()), [&] { return x.shape().str(); });
}

void forward(Stream& stream, In x, In w, In b, double eps, Activation act, Out y, Out mean,
             Out rstd) {
  const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
  const Forward a{w.data<float>(),
                  b.data<float>(),
                  mean ? mean.data<float>() : nullptr,
                  rstd ? rstd.data<float>() : nullptr,
                  rows,
                  int(c),
                  float(eps),
                  act == Activation::gelu};
  dispatch<float, bf16>(x.dtype(), "layer_norm", [&]<class T>() {
    if (forward_rows(stream, "layer_norm.fwd", FromTensor<T>{x.data<T>()}, y.data<T>(), a)) return;
    slow_path("layer_norm.fwd", x, 2);
    cuda::launch(stream, {"layer_norm.fwd", blocks_for(rows, kWarps, 16), kThreads},
                 forward_any_kernel<T>, x.data<T>(), y.data<T>(), a);
  });
}

void backward(Stream& stream, In dy, In x, In w, In b, In mean, In rstd, Activation act, Grad dx,
              Grad dw, Grad db) {
  const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
  Backward a{w.data<float>(),
             b.data<float>(),
             mean.data<float>(),
             rstd.data<float>(),
             nullptr,
             rows,
             int(c),
             act == Activation::gelu};
  dispatch<float, bf16>(x.dtype(), "layer_norm", [&]<class T>() {
    const auto held = [&]<bool Gelu>(std::bool_constant<Gelu>) {
      return backward_rows<Gelu>(stream, "layer_norm.bwd", dy.data<T>(), x.data<T>(),
                                 ToGrad<T>{cuda::grad_ptr<T>(dx)}, a, {dw, db});
    };
    if (a.gelu ? held(std::true_type()) : held(std::false_type())) return;
    slow_path("layer_norm.bwd", x, dx ? 2 : 0);
    const unsigned blocks = blocks_for(rows, 1, 8);
    Tensor parts;
    if (dw || db) parts = empty({int64_t{blocks}, 2, c}, Dtype::f32, x.device());
    a.parts = parts ? parts.data<float>() : nullptr;
    cuda::launch(stream, {"layer_norm.bwd", blocks, cuda::kWarp}, backward_any_kernel<T>,
                 dy.data<T>(), x.data<T>(), cuda::grad_ptr<T>(dx), a);
    if (parts) cuda::sum_parts(stream, "layer_norm.bwd.sum", parts, {dw, db});
  });
}

const Register r0{kernels::layer_norm_fwd, DeviceType::cuda, forward};
const Register r1{kernels::layer_norm_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
