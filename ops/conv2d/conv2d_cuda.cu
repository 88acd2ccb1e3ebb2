// Four ways. In bf16, the 3x3 convolutions of the stem between maps of equal channels
// (implicit_gemm.cuh) and kernel = stride (patchify.h) have kernels that read and write maps where
// they lie. Those of wide channels, which are the heads', are cuDNN's (wide.cuh). For all else, the
// stem's first convolution and what cuDNN does not do, windows are copied to the rows of a matrix,
// some images at a time, and are a matmul.
#include "core/cuda/biased_gemm.cuh"
#include "core/cuda/column_sums.cuh"
#include "core/profile.h"
#include "ops/conv2d/conv3x3.cuh"
#include "ops/conv2d/im2col.cuh"
#include "ops/conv2d/patchify.h"
#include "ops/conv2d/tuning_cuda.h"
#include "ops/conv2d/wide.cuh"

namespace sg {
namespace {

using conv2d_cuda::Windows;

// f(image, images) for parts of the batch whose matrix stays within a bound, or that have one
// image.
template <class T, class F>
void for_images(const Windows& v, Device device, const F& f) {
  const int64_t bytes = v.windows() * v.pitch * int64_t(sizeof(T));
  const int64_t step = std::clamp<int64_t>(conv2d_cuda::tuning.matrix_bytes / bytes, 1, v.batch);
  Tensor matrix = empty({step * v.windows(), v.pitch}, dtype_of<T>(), device);
  for (int64_t image = 0; image < v.batch; image += step)
    f(image, std::min(step, v.batch - image), matrix.data<T>());
}

// The matrix is written and read. It is the usual way where few channels make a pixel smaller than
// an access (the images of the stem), for which there is no other.
template <class T>
void count_matrix(const char* op, const Windows& v) {
  const double bytes = 2.0 * double(v.batch * v.windows() * v.pitch) * sizeof(T);
  if (v.channels < conv2d_cuda::kWide<T>) return profile::add_bytes(bytes);
  profile::slow_path(op, "windows are copied to a matrix", bytes, [&] {
    return fmt::format("{} ({}, {}, {}, {}), kernel {} x {}, stride {}", name_of(dtype_of<T>()),
                       v.batch, v.height, v.width, v.channels, v.kernel_height, v.kernel_width,
                       v.stride);
  });
}

template <class T>
void im2col_forward(Stream& stream, const Windows& v, In x, In w, In b, Out y) {
  const int64_t filters = w.dim(0), map = x.numel() / v.batch, out = y.numel() / v.batch;
  const Tensor weights = conv2d_cuda::pad_weight_rows(stream, w, v);
  count_matrix<T>("conv2d.fwd", v);
  for_images<T>(v, stream.device, [&](int64_t image, int64_t images, T* matrix) {
    conv2d_cuda::gather(stream, v, x.data<T>() + image * map, images, matrix);
    cuda::biased_gemm(stream, {.m = images * v.windows(),
                               .n = filters,
                               .k = v.pitch,
                               .in = x.dtype(),
                               .a = {matrix, v.pitch},
                               .b = {weights.raw(), v.pitch, true},
                               .out = y.dtype(),
                               .c = y.data<T>() + image * out,
                               .c_stride = filters,
                               .bias = b ? b.raw() : nullptr});
  });
}

template <class T>
void im2col_backward_input(Stream& stream, const Windows& v, In dy, In w, const Grad& dx) {
  const int64_t filters = w.dim(0), out = dy.numel() / v.batch, map = dx.tensor.numel() / v.batch;
  const Tensor weights = conv2d_cuda::pad_weight_rows(stream, w, v);
  count_matrix<T>("conv2d.bwd", v);
  for_images<T>(v, stream.device, [&](int64_t image, int64_t images, T* matrix) {
    cuda::gemm(stream, {.m = images * v.windows(),
                        .n = v.pitch,
                        .k = filters,
                        .in = dy.dtype(),
                        .a = {dy.data<T>() + image * out, filters},
                        .b = {weights.raw(), v.pitch},
                        .out = dy.dtype(),
                        .c = matrix,
                        .c_stride = v.pitch});
    conv2d_cuda::scatter(stream, v, matrix, images, dx.tensor.data<T>() + image * map,
                         dx.accumulate);
  });
}

template <class T>
void im2col_backward_weights(Stream& stream, const Windows& v, In dy, In x, const Grad& dw) {
  const int64_t filters = dy.dim(3), map = x.numel() / v.batch, out = dy.numel() / v.batch;
  count_matrix<T>("conv2d.bwd", v);
  for_images<T>(v, stream.device, [&](int64_t image, int64_t images, T* matrix) {
    conv2d_cuda::gather(stream, v, x.data<T>() + image * map, images, matrix);
    cuda::gemm(stream, {.m = filters,
                        .n = v.size(),
                        .k = images * v.windows(),
                        .in = x.dtype(),
                        .a = {dy.data<T>() + image * out, filters, true},
                        .b = {matrix, v.pitch},
                        .out = Dtype::f32,
                        .c = dw.tensor.data<float>(),
                        .c_stride = v.size(),
                        .accumulate = dw.accumulate || image > 0});
  });
}

void forward(Stream& stream, In x, In w, In b, const Conv2dGeometry& geometry, Out y) {
  if (y.numel() == 0) return;
  if (conv2d_cuda::is_conv3x3(x, w, geometry))
    return conv2d_cuda::conv3x3_forward(stream, x, w, b, geometry, y);
  if (conv2d_cuda::is_patchify(x, w, geometry, y))
    return conv2d_cuda::patchify_forward(stream, x, w, b, geometry, y);
  if (conv2d_cuda::is_wide(x, w, geometry) &&
      conv2d_cuda::wide_forward(stream, x, w, b, geometry, y))
    return;
  dispatch<float, bf16>(x.dtype(), "conv2d", [&]<class T>() {
    im2col_forward<T>(stream, conv2d_cuda::windows_of<T>(x, w, y, geometry), x, w, b, y);
  });
}

void backward(Stream& stream, In dy, In x, In w, const Conv2dGeometry& geometry, Grad dx, Grad dw,
              Grad db) {
  if (dy.numel() == 0) {
    for (const Grad& g : {dx, dw, db})
      if (g && !g.accumulate) g.tensor.zero_();
    return;
  }
  dispatch<float, bf16>(x.dtype(), "conv2d", [&]<class T>() {
    if (conv2d_cuda::is_conv3x3(x, w, geometry)) {
      if (dx) conv2d_cuda::conv3x3_backward_input(stream, dy, w, geometry, dx);
      if (dw) conv2d_cuda::conv3x3_backward_weights(stream, dy, x, geometry, dw);
    } else if (conv2d_cuda::is_patchify(x, w, geometry, dy)) {
      if (dx) conv2d_cuda::patchify_backward_input(stream, dy, w, geometry, dx);
      if (dw) conv2d_cuda::patchify_backward_weights(stream, dy, x, geometry, dw);
    } else {
      if (conv2d_cuda::is_wide(x, w, geometry)) {
        if (dx && conv2d_cuda::wide_backward_input<T>(stream, dy, w, geometry, dx)) dx = {};
        if (dw && conv2d_cuda::wide_backward_weights<T>(stream, dy, x, geometry, dw)) dw = {};
      }
      const Windows v = conv2d_cuda::windows_of<T>(x, w, dy, geometry);
      if (dx) im2col_backward_input<T>(stream, v, dy, w, dx);
      if (dw) im2col_backward_weights<T>(stream, v, dy, x, dw);
    }
    if (db)
      cuda::column_sums(stream, dy.data<T>(), dy.numel() / dy.dim(3), dy.dim(3),
                        cuda::GradPtr<float>{db.tensor.data<float>(), db.accumulate});
  });
}

void choices(Stream&, std::vector<std::string>& lines) {
  lines = cuda::cudnn_choices();
  lines.insert(lines.begin(), "convolutions of wide maps: " + cuda::describe_cudnn());
}

const Register r1{kernels::conv2d_fwd, DeviceType::cuda, forward};
const Register r2{kernels::conv2d_bwd, DeviceType::cuda, backward};
const Register r3{kernels::conv2d_choices, DeviceType::cuda, choices};

}  // namespace
}  // namespace sg
