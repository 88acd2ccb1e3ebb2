// A thread an axis of a box finds the bins, then a thread a bin adds the pixels that it reads.
#include "core/cuda/kernel.cuh"
#include "ops/mask_targets/mask_targets.h"
#include "ops/roi_align/bins.h"

namespace sg {
namespace {

constexpr int kThreads = 256;

struct Sizes {
  int64_t boxes;
  int masks, h, w, size;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    bins_kernel(const T* boxes, Sizes s, RoiBin<double>* bins, double* weights,
                int64_t weights_of_axis, int* samples) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= 2 * s.boxes) return;
  const int axis = int(i % 2), limit = axis ? s.w : s.h;
  const T* const box = boxes + i / 2 * 4 + (1 - axis);
  const bool valid = valid_roi_place(box[0], T(1)) && valid_roi_place(box[2], T(1));
  const auto place = [&](T v) { return v > 0 ? (v < T(limit) ? double(v) : double(limit)) : 0.0; };
  const auto of = roi_axis(place(box[0]), place(box[2]), 1.0, s.size, limit);
  if (valid) make_roi_bins(of, s.size, bins + i * s.size, weights + i * weights_of_axis);
  samples[i] = valid ? std::max(of.grid, 0) : -1;  // less than no size: no sample
}

__global__ void __launch_bounds__(kThreads)
    targets_kernel(const uint8_t* masks, const int32_t* objects, Sizes s,
                   const RoiBin<double>* bins, const int* samples, uint8_t* targets) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t box = i / s.size / s.size;
  if (box >= s.boxes) return;
  const int object = objects[box], n_rows = samples[2 * box], n_columns = samples[2 * box + 1];
  if (object < 0 || object >= s.masks || n_rows < 0 || n_columns < 0) {
    targets[i] = 255;
    return;
  }
  const RoiBin<double> rows = bins[2 * box * s.size + i / s.size % s.size];
  const RoiBin<double> columns = bins[(2 * box + 1) * s.size + i % s.size];
  const uint8_t* const mask = masks + int64_t{object} * s.h * s.w;
  double sum = 0;
  for (int q = columns.begin; q < columns.end; ++q) {
    double of_column = 0;
    for (int r = rows.begin; r < rows.end; ++r)
      of_column += rows.weight(r) * mask[int64_t{r} * s.w + q];
    sum += columns.weight(q) * of_column;
  }
  const int64_t count = int64_t{n_rows} * n_columns;
  targets[i] = sum >= 0.5 * double(count > 1 ? count : 1);
}

void forward(Stream& stream, In masks, In boxes, In objects, Out targets) {
  if (targets.numel() == 0) return;
  const Sizes s{boxes.dim(0), int(masks.dim(0)), int(masks.dim(1)), int(masks.dim(2)),
                int(targets.dim(1))};
  const int64_t of_axis = roi_weights(s.size, std::max(s.h, s.w));
  const auto memory = [&](int64_t bytes) { return empty({bytes}, Dtype::u8, stream.device); };
  Tensor bins = memory(2 * s.boxes * s.size * int64_t(sizeof(RoiBin<double>)));
  Tensor weights = memory(2 * s.boxes * of_axis * int64_t(sizeof(double)));
  Tensor samples = empty({2 * s.boxes}, Dtype::i32, stream.device);
  const auto bins_data = static_cast<RoiBin<double>*>(bins.raw());
  dispatch<float, double>(boxes.dtype(), "mask_targets", [&]<class T>() {
    cuda::launch(stream,
                 {"mask_targets.bins", unsigned(cuda::ceil_div(2 * s.boxes, kThreads)), kThreads},
                 bins_kernel<T>, boxes.data<T>(), s, bins_data, static_cast<double*>(weights.raw()),
                 of_axis, samples.data<int32_t>());
  });
  cuda::launch(stream,
               {"mask_targets", unsigned(cuda::ceil_div(targets.numel(), kThreads)), kThreads},
               targets_kernel, masks.data<uint8_t>(), objects.data<int32_t>(), s, bins_data,
               samples.data<int32_t>(), targets.data<uint8_t>());
}
const Register r{kernels::mask_targets, DeviceType::cuda, forward};

}  // namespace
}  // namespace sg
