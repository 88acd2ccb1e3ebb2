// A thread some boxes: for each row of bins the lines of the mask are added up by their weights,
// then the pixels of that sum by those of each column of bins.
#include <algorithm>

#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "ops/mask_targets/mask_targets.h"
#include "ops/roi_align/bins.h"

namespace sg {
namespace {

template <class T>
void compute(In masks, const T* boxes, const int32_t* objects, Out targets) {
  const int64_t n = targets.dim(0), h = masks.dim(1), w = masks.dim(2);
  const int size = int(targets.dim(1));
  for (int64_t i = 0; i < n; ++i) {
    if (objects[i] < 0 || objects[i] >= masks.dim(0))
      fail(ExitCode::data, "mask_targets: box {}: mask {} of {} does not exist", i, objects[i],
           masks.dim(0));
    for (int k = 0; k < 4; ++k)
      if (!valid_roi_place(boxes[4 * i + k], T(1)))
        fail(ExitCode::data, "mask_targets: box {}: {} is no place in an image", i,
             boxes[4 * i + k]);
  }
  const int64_t row_weights = roi_weights(size, h), column_weights = roi_weights(size, w);
  Scratch<double> memory(row_weights + column_weights + w);
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    double* const weights = memory.mine();
    double* const sums = weights + row_weights + column_weights;
    RoiBin<double> rows[kMaxRoiBins], columns[kMaxRoiBins];
    for (int64_t i = begin; i < end; ++i) {
      const auto axis = [&](int low, int64_t limit) {
        const auto place = [&](int k) {
          return std::clamp(double(boxes[4 * i + k]), 0.0, double(limit));
        };
        return roi_axis(place(low), place(low + 2), 1.0, size, limit);
      };
      const RoiAxis<double> y = axis(1, h), x = axis(0, w);
      make_roi_bins(y, size, rows, weights);
      make_roi_bins(x, size, columns, weights + row_weights);
      const double half = 0.5 * double(std::max<int64_t>(int64_t{y.grid} * x.grid, 1));
      const uint8_t* const mask = masks.data<uint8_t>() + objects[i] * h * w;
      const auto [first, last] = roi_span(columns, size);
      uint8_t* to = targets.data<uint8_t>() + i * size * size;
      for (const RoiBin<double>* row = rows; row < rows + size; ++row) {
        std::fill(sums + first, sums + last, 0.0);
        for (int r = row->begin; r < row->end; ++r) {
          const double weight = row->weight(r);
          const uint8_t* const line = mask + r * w;
#pragma omp simd
          for (int64_t q = first; q < last; ++q) sums[q] += weight * line[q];
        }
        for (const RoiBin<double>* column = columns; column < columns + size; ++column) {
          double sum = 0;
          for (int q = column->begin; q < column->end; ++q) sum += column->weight(q) * sums[q];
          *to++ = sum >= half;
        }
      }
    }
  });
}

void forward(Stream&, In masks, In boxes, In objects, Out targets) {
  dispatch<float, double>(boxes.dtype(), "mask_targets", [&]<class T>() {
    compute(masks, boxes.data<T>(), objects.data<int32_t>(), targets);
  });
}
const Register r{kernels::mask_targets, DeviceType::cpu, forward};

}  // namespace
}  // namespace sg
