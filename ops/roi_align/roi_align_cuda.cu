// First a thread an axis of a RoI finds the bins. Then forward is a thread a vector of channels of
// a bin. Backward is a block some pixels of a line of a map, a thread a vector of channels of one:
// the block looks for the RoIs that read the pixels, and adds what they give in their order.
#include <bit>

#include "ops/reduce_cuda.cuh"
#include "ops/roi_align/bins.h"
#include "ops/roi_align/roi_align.h"

namespace sg {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / cuda::kWarp;

struct Map {
  const void* data;
  int images, h, w;  // no images: nobody asks for its gradient
  float scale;
};
struct Maps {
  Map map[kMaxRoiMaps];
  int count;
};

struct Span {
  int begin, end;
  __device__ bool overlaps(int first, int last) const { return begin < last && first < end; }
};

// What the first kernel finds of a RoI. map: -1 where the RoI is none.
struct Roi {
  int map, image;
  float factor;  // 1 / samples of a bin
  Span axis[2];  // pixels that are read, rows and columns
};

// Bins along y, and along x, of all RoIs.
struct Table {
  Roi* rois;
  RoiBin<float>* bins;
  int64_t count;
  int size;
  __device__ RoiBin<float>* bins_of(int64_t roi, int axis) const {
    return bins + (2 * roi + axis) * size;
  }
};

__global__ void __launch_bounds__(kThreads)
    table_kernel(const float* rois, const int32_t* levels, const __grid_constant__ Maps maps,
                 Table table, float* weights, int64_t weights_of_axis) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, r = i / 2;
  const int axis = int(i % 2);
  if (r >= table.count) return;
  const float* const roi = rois + 5 * r;
  RoiBin<float>* const bins = table.bins_of(r, axis);
  Roi& to = table.rois[r];
  const int level = levels ? levels[r] : 0;
  bool valid = level >= 0 && level < maps.count;
  const Map map = maps.map[valid ? level : 0];
  valid = valid && roi[0] >= 0 && roi[0] < float(map.images);
  for (int k = 1; k < 5; ++k) valid = valid && valid_roi_place(roi[k], map.scale);
  const auto axis_of = [&](int a) {
    return roi_axis(roi[2 - a], roi[4 - a], map.scale, table.size, a ? map.w : map.h);
  };
  if (valid)
    make_roi_bins(axis_of(axis), table.size, bins, weights + i * weights_of_axis);
  else
    for (int b = 0; b < table.size; ++b) bins[b] = {0, 0, nullptr};
  const auto span = roi_span(bins, table.size);
  to.axis[axis] = {span.first, span.second};
  if (axis == 0) {
    to.map = valid ? level : -1;
    to.image = valid ? int(roi[0]) : 0;
    const int64_t samples = valid ? int64_t{axis_of(0).grid} * axis_of(1).grid : 1;
    to.factor = 1.0f / float(samples > 1 ? samples : 1);
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const __grid_constant__ Maps maps, Table table, T* y, int64_t total,
                   int channels) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= total) return;
  const int vectors = channels / N, c = int(i % vectors) * N;
  const int64_t bin = i / vectors, r = bin / table.size / table.size;
  const Roi roi = table.rois[r];
  cuda::Vec<float, N> sum{};
  if (roi.map < 0) {
#pragma unroll
    for (int n = 0; n < N; ++n) sum[n] = NAN;
    return cuda::store_float<N>(y + i * N, sum);
  }
  const RoiBin<float> rows = table.bins_of(r, 0)[bin / table.size % table.size];
  const RoiBin<float> columns = table.bins_of(r, 1)[bin % table.size];
  const Map& map = maps.map[roi.map];
  const T* const image =
      static_cast<const T*>(map.data) + int64_t{roi.image} * map.h * map.w * channels + c;
  for (int row = rows.begin; row < rows.end; ++row) {
    const float weight = rows.weight(row) * roi.factor;
#pragma unroll 4
    for (int q = columns.begin; q < columns.end; ++q) {
      const auto v = cuda::load_float<N>(image + (int64_t{row} * map.w + q) * channels);
      const float w = weight * columns.weight(q);
#pragma unroll
      for (int n = 0; n < N; ++n) sum[n] = fmaf(w, v[n], sum[n]);
    }
  }
  cuda::store_float<N>(y + i * N, sum);
}

// What RoI r gives to one pixel.
template <class T, int N>
__device__ void add_roi(const T* dy, const Table& table, int64_t r, int row, int column,
                        int channels, cuda::Vec<float, N>& sum) {
  const RoiBin<float>*const rows = table.bins_of(r, 0), *const columns = table.bins_of(r, 1);
  const float factor = table.rois[r].factor;
  for (int i = 0; i < table.size; ++i) {
    if (!rows[i].reads(row)) continue;
    const float weight = rows[i].weight(row) * factor;
    for (int j = 0; j < table.size; ++j) {
      if (!columns[j].reads(column)) continue;
      const float w = weight * columns[j].weight(column);
      const auto v = cuda::load_float<N>(dy + ((r * table.size + i) * table.size + j) * channels);
#pragma unroll
      for (int n = 0; n < N; ++n) sum[n] = fmaf(w, v[n], sum[n]);
    }
  }
}

// Of a block of the backward kernel: `pixels` of a line, and for each `vectors` of its channels.
struct Tile {
  int pixels, vectors;
  unsigned of_line;  // tiles
};

// grid: tiles of all lines, and of the channels.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const T* dy, Table table, cuda::GradPtr<T> dx, int number, Map map,
                    int channels, Tile tile) {
  __shared__ int readers[kThreads], counts[kWarps];
  const int warp = int(threadIdx.x) / cuda::kWarp, lane = int(threadIdx.x) % cuda::kWarp;
  const int line = int(blockIdx.x / tile.of_line), image = line / map.h, row = line % map.h;
  const int first = int(blockIdx.x % tile.of_line) * tile.pixels;
  const int column = first + int(threadIdx.x) / tile.vectors;
  const int c = (int(blockIdx.y) * tile.vectors + int(threadIdx.x) % tile.vectors) * N;
  const bool works =
      int(threadIdx.x) < tile.pixels * tile.vectors && column < map.w && c < channels;
  cuda::Vec<float, N> sum{};
  for (int64_t begin = 0; begin < table.count; begin += kThreads) {
    const int64_t r = begin + threadIdx.x;
    bool reads = r < table.count;
    if (reads) {
      const Roi& roi = table.rois[r];
      reads = roi.map == number && roi.image == image && roi.axis[0].overlaps(row, row + 1) &&
              roi.axis[1].overlaps(first, first + tile.pixels);
    }
    const uint32_t readers_of_warp = cuda::ballot(reads);
    if (lane == 0) counts[warp] = std::popcount(readers_of_warp);
    __syncthreads();
    int before = std::popcount(readers_of_warp & ((1u << lane) - 1)), all = 0;
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) before += counts[w];
      all += counts[w];
    }
    if (reads) readers[before] = int(r);
    __syncthreads();
    if (works)
      for (int k = 0; k < all; ++k)
        add_roi<T, N>(dy + c, table, readers[k], row, column, channels, sum);
    __syncthreads();
  }
  if (works) dx.put((int64_t{line} * map.w + column) * channels + c, sum);
}

// Memory of a Table, and the kernel that fills it.
class Tables {
 public:
  Tables(Stream& stream, In rois, In levels, const Maps& maps, int64_t size) {
    const int64_t n = rois.dim(0);
    int64_t weights = 0;
    for (int m = 0; m < maps.count; ++m)
      for (const int side : {maps.map[m].h, maps.map[m].w})
        weights = std::max(weights, roi_weights(size, side));
    rois_ = empty({n, int64_t(sizeof(Roi))}, Dtype::u8, stream.device);
    bins_ = empty({n, 2 * size, int64_t(sizeof(RoiBin<float>))}, Dtype::u8, stream.device);
    weights_ = empty({n, 2, weights}, Dtype::f32, stream.device);
    table_ = {static_cast<Roi*>(rois_.raw()), static_cast<RoiBin<float>*>(bins_.raw()), n,
              int(size)};
    cuda::launch(stream, {"roi_align.table", unsigned(cuda::ceil_div(2 * n, kThreads)), kThreads},
                 table_kernel, rois.data<float>(), levels ? levels.data<int32_t>() : nullptr, maps,
                 table_, weights_.data<float>(), weights);
  }
  const Table& get() const { return table_; }

 private:
  Tensor rois_, bins_, weights_;
  Table table_;
};

void forward(Stream& stream, const std::vector<Tensor>& tensors, In rois, In levels,
             const std::vector<double>& scales, Out y) {
  if (y.numel() == 0) return;
  Maps maps{};
  for (const Tensor& t : tensors) {
    maps.map[maps.count] = {t.raw(), int(t.dim(0)), int(t.dim(1)), int(t.dim(2)),
                            float(scales[size_t(maps.count)])};
    ++maps.count;
  }
  const Tables table(stream, rois, levels, maps, y.dim(1));
  dispatch<float, bf16>(y.dtype(), "roi_align", [&]<class T>() {
    cuda::with_vectors<T>(y.dim(3), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t total = y.numel() / N;
      cuda::launch(stream, {"roi_align.fwd", unsigned(cuda::ceil_div(total, kThreads)), kThreads},
                   forward_kernel<T, N>, maps, table.get(), y.data<T>(), total, int(y.dim(3)));
    });
  });
}

void backward(Stream& stream, In dy, In rois, In levels, const std::vector<double>& scales,
              const std::vector<Grad>& dmaps) {
  Maps maps{};
  for (const Grad& g : dmaps) {
    Map& map = maps.map[maps.count];
    if (g) map = {nullptr, int(g.tensor.dim(0)), int(g.tensor.dim(1)), int(g.tensor.dim(2))};
    map.scale = float(scales[size_t(maps.count++)]);
  }
  const Tables table(stream, rois, levels, maps, dy.dim(1));
  dispatch<float, bf16>(dy.dtype(), "roi_align", [&]<class T>() {
    cuda::with_vectors<T>(dy.dim(3), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int channels = int(dy.dim(3)), vectors = std::min(channels / N, kThreads);
      for (int m = 0; m < maps.count; ++m) {
        const Map& map = maps.map[m];
        if (map.images == 0) continue;
        Tile tile{kThreads / vectors, vectors, 0};
        tile.of_line = unsigned(cuda::ceil_div(map.w, tile.pixels));
        const dim3 grid{unsigned(map.images * map.h) * tile.of_line,
                        unsigned(cuda::ceil_div(channels / N, vectors))};
        cuda::launch(stream, {"roi_align.bwd", grid, kThreads}, backward_kernel<T, N>, dy.data<T>(),
                     table.get(), cuda::grad_ptr<T>(dmaps[size_t(m)]), m, map, channels, tile);
      }
    });
  });
}

const Register r_fwd{kernels::roi_align_fwd, DeviceType::cuda, forward};
const Register r_bwd{kernels::roi_align_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
