// One block a RoI, in both directions; the RoIs' sums are added by a second kernel.
#include "ops/mask_loss/mask_loss.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* logits, const int32_t* labels, const uint8_t* targets, int64_t pixels,
                   int classes, float scale, float* parts) {
  __shared__ float scratch[33];
  const int label = labels[blockIdx.x];
  const bool exists = label >= 0 && label < classes;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < pixels; i += kThreads) {
    const int64_t pixel = blockIdx.x * pixels + i;
    const float z =
        exists && targets[pixel] <= 1 ? cuda::to_float(logits[pixel * classes + label]) : NAN;
    sum += (z > 0 ? z : 0.0f) - float(targets[pixel]) * z + log1pf(expf(-fabsf(z)));
  }
  sum = cuda::block_sum(sum, scratch);
  if (threadIdx.x == 0) parts[blockIdx.x] = scale * sum;
}

// Adds to dlogits.
template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const float* dloss, const T* logits, const int32_t* labels,
                    const uint8_t* targets, int64_t pixels, int classes, float scale,
                    cuda::GradPtr<T> dlogits) {
  const int label = labels[blockIdx.x];
  if (label < 0 || label >= classes) return;
  for (int64_t i = threadIdx.x; i < pixels; i += kThreads) {
    const int64_t pixel = blockIdx.x * pixels + i, at = pixel * classes + label;
    const float z = cuda::to_float(logits[at]), e = expf(-fabsf(z));
    const float sigmoid = (z < 0 ? e : 1.0f) / (1.0f + e);
    dlogits.put(at, *dloss * scale * (sigmoid - float(targets[pixel])));
  }
}

void forward(Stream& stream, In logits, In labels, In targets, double scale, Out parts, Out loss) {
  const int64_t n = logits.dim(0), pixels = logits.dim(1) * logits.dim(2);
  dispatch<float, bf16>(logits.dtype(), "mask_loss", [&]<class T>() {
    cuda::launch(stream, {"mask_loss.fwd", unsigned(n), kThreads}, forward_kernel<T>,
                 logits.data<T>(), labels.data<int32_t>(), targets.data<uint8_t>(), pixels,
                 int(logits.dim(3)), float(scale), parts.data<float>());
  });
  cuda::sum_parts(stream, "mask_loss.sum", parts, {Grad{loss}});
}

void backward(Stream& stream, In dloss, In logits, In labels, In targets, double scale,
              Grad dlogits) {
  if (!dlogits.accumulate) dlogits.tensor.zero_();
  dlogits.accumulate = true;
  const int64_t n = logits.dim(0), pixels = logits.dim(1) * logits.dim(2);
  dispatch<float, bf16>(logits.dtype(), "mask_loss", [&]<class T>() {
    cuda::launch(stream, {"mask_loss.bwd", unsigned(n), kThreads}, backward_kernel<T>,
                 dloss.data<float>(), logits.data<T>(), labels.data<int32_t>(),
                 targets.data<uint8_t>(), pixels, int(logits.dim(3)), float(scale),
                 cuda::grad_ptr<T>(dlogits));
  });
}

const Register r_fwd{kernels::mask_loss_fwd, DeviceType::cuda, forward};
const Register r_bwd{kernels::mask_loss_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
