// A RoI is two axes of bins with the weights of the pixels that they read, so that a pixel is read
// once a bin and not once a sample. Forward: a thread some rows of bins, each sum in registers.
// Backward: a thread some lines of the maps, to each of which it adds what the RoIs give it, in
// their order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/roi_align/roi_align_cpu.cpp"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/cpu/blocks-inl.h"
#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/cpu/simd_register.h"
#include "ops/roi_align/bins.h"
#include "ops/roi_align/roi_align.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

struct MapSize {
  int64_t images, h, w;
};

// The RoIs, read from memory.
template <class T>
class Rois {
 public:
  Rois(In rois, In levels, const std::vector<double>& scales, std::vector<MapSize> maps, int bins)
      : rois_(rois.data<T>()),
        levels_(levels ? levels.data<int32_t>() : nullptr),
        count_(rois.dim(0)),
        bins_(bins),
        maps_(std::move(maps)) {
    for (const double s : scales) scales_.push_back(T(s));
    for (const MapSize& m : maps_)
      weights_ = std::max({weights_, roi_weights(bins, m.h), roi_weights(bins, m.w)});
  }

  int64_t count() const { return count_; }
  int64_t level(int64_t r) const { return levels_ ? levels_[r] : 0; }
  int64_t image(int64_t r) const { return int64_t(rois_[r * 5]); }
  const MapSize& map(int64_t r) const { return maps_[size_t(level(r))]; }
  // Of the bins of both axes.
  int64_t weights() const { return 2 * weights_; }

  void check_all() const {
    for (int64_t r = 0; r < count_; ++r) {
      if (level(r) < 0 || level(r) >= int64_t(maps_.size()))
        fail(ExitCode::data, "roi_align: RoI {}: map {} of {} does not exist", r, level(r),
             maps_.size());
      const T* const roi = rois_ + r * 5;
      const T scale = scales_[size_t(level(r))];
      if (!(roi[0] >= 0 && roi[0] < T(map(r).images)))
        fail(ExitCode::data, "roi_align: RoI {}: image {} of {} does not exist", r, roi[0],
             map(r).images);
      for (int i = 1; i < 5; ++i)
        if (!valid_roi_place(roi[i], scale))
          fail(ExitCode::data, "roi_align: RoI {}: {} is no place in an image", r, roi[i]);
    }
  }

  // Bins along y, then as many along x.
  void make_bins(int64_t r, RoiBin<T>* bins, T* weights) const {
    const T *const roi = rois_ + r * 5, scale = scales_[size_t(level(r))];
    const auto axis = [&](int low, int64_t size) {
      return roi_axis(roi[low], roi[low + 2], scale, bins_, size);
    };
    make_roi_bins(axis(2, map(r).h), bins_, bins, weights);
    make_roi_bins(axis(1, map(r).w), bins_, bins + bins_, weights + weights_);
  }
  // 1 / the samples of a bin
  T factor(int64_t r) const {
    const T *const roi = rois_ + r * 5, scale = scales_[size_t(level(r))];
    const int64_t rows = roi_axis(roi[2], roi[4], scale, bins_, 1).grid;
    const int64_t columns = roi_axis(roi[1], roi[3], scale, bins_, 1).grid;
    return 1 / T(std::max<int64_t>(rows * columns, 1));
  }

 private:
  const T* rois_;
  const int32_t* levels_;
  int64_t count_;
  int bins_;
  std::vector<MapSize> maps_;
  std::vector<T> scales_;
  int64_t weights_ = 0;
};

void forward(Stream&, const std::vector<Tensor>& maps, In rois, In levels,
             const std::vector<double>& scales, Out y) {
  dispatch<float, double, bf16>(y.dtype(), "roi_align", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t size = y.dim(1), c = y.dim(3);
    std::vector<MapSize> sizes;
    std::vector<const S*> data;
    for (const Tensor& m : maps)
      sizes.push_back({m.dim(0), m.dim(1), m.dim(2)}), data.push_back(m.data<S>());
    const Rois<T> all(rois, levels, scales, std::move(sizes), int(size));
    all.check_all();
    Scratch<T> weights(all.weights());
    S* const to = y.data<S>();
    parallel_for(all.count() * size, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      RoiBin<T> bins[2 * kMaxRoiBins];
      for (int64_t line = begin; line < end; ++line) {
        const int64_t r = line / size;
        if (line == begin || line % size == 0) all.make_bins(r, bins, weights.mine());
        const RoiBin<T>& rows = bins[line % size];
        const T factor = all.factor(r);
        const int64_t w = all.map(r).w;
        const S* const image = data[size_t(all.level(r))] + all.image(r) * all.map(r).h * w * c;
        for (int64_t j = 0; j < size; ++j) {
          const RoiBin<T>& columns = bins[size + j];
          S* const at = to + (line * size + j) * c;
          for_blocks<T>(c, [=, &rows, &columns](auto d, int64_t k, auto count) SG_INLINE_ATTR {
            constexpr int N = decltype(count)::value;
            const auto lanes = int64_t(hn::Lanes(d));
            hn::Vec<decltype(d)> sum[N];
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) sum[n] = hn::Zero(d);
            for (int row = rows.begin; row < rows.end; ++row) {
              const T weight = rows.weight(row) * factor;
              const S* p = image + (row * w + columns.begin) * c + k;
              for (int q = 0; q < columns.end - columns.begin; ++q, p += c) {
                const auto v = hn::Set(d, weight * columns.weights[q]);
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) sum[n] = hn::MulAdd(load(d, p + n * lanes), v, sum[n]);
              }
            }
            store(sum, d, at + k, lanes);
          });
        }
      }
    });
  });
}

// What RoI r gives to line `row` of the map: each bin of the line, the sum over the rows of bins
// that read it, goes to the pixels that it reads.
template <class S, class T>
void add_to_line(const S* dy, const RoiBin<T>* bins, T factor, int64_t size, int row, int64_t c,
                 T* line) {
  T weights[kMaxRoiBins];
  const S* from[kMaxRoiBins];
  int count = 0;
  for (int64_t i = 0; i < size; ++i) {
    if (!bins[i].reads(row)) continue;
    weights[count] = bins[i].weight(row) * factor;
    from[count++] = dy + i * size * c;
  }
  for (int64_t j = 0; j < size; ++j) {
    const RoiBin<T>& columns = bins[size + j];
    for_blocks<T>(c, [=, &weights, &from, &columns](auto d, int64_t k, auto blocks) SG_INLINE_ATTR {
      constexpr int N = decltype(blocks)::value;
      const auto lanes = int64_t(hn::Lanes(d));
      hn::Vec<decltype(d)> sum[N];
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[n] = hn::Zero(d);
      for (int i = 0; i < count; ++i) {
        const auto v = hn::Set(d, weights[i]);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n)
          sum[n] = hn::MulAdd(load(d, from[i] + j * c + k + n * lanes), v, sum[n]);
      }
      T* to = line + columns.begin * c + k;
      for (int q = 0; q < columns.end - columns.begin; ++q, to += c) {
        const auto v = hn::Set(d, columns.weights[q]);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n)
          hn::StoreU(hn::MulAdd(sum[n], v, hn::LoadU(d, to + n * lanes)), d, to + n * lanes);
      }
    });
  }
}

// A line of one image of a map, and the RoIs [begin, end) of a list that read it.
struct Line {
  int64_t map, image, row, begin, end;
};

void backward(Stream&, In dy, In rois, In levels, const std::vector<double>& scales,
              const std::vector<Grad>& dmaps) {
  dispatch<float, double, bf16>(dy.dtype(), "roi_align", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t size = dy.dim(1), c = dy.dim(3);
    std::vector<MapSize> sizes;
    std::vector<Line> lines;
    std::vector<int64_t> first_line;  // of each map; one whose gradient is not wanted has none
    int64_t widest = 0;
    for (const Grad& g : dmaps) {
      const MapSize m = g ? MapSize{g.tensor.dim(0), g.tensor.dim(1), g.tensor.dim(2)} : MapSize{};
      first_line.push_back(int64_t(lines.size()));
      for (int64_t i = 0; i < m.images * m.h; ++i)
        lines.push_back({int64_t(sizes.size()), i / m.h, i % m.h, 0, 0});
      sizes.push_back(m);
      widest = std::max(widest, m.w);
    }
    const Rois<T> all(rois, levels, scales, sizes, int(size));
    const int64_t n = all.count();
    std::vector<RoiBin<T>> bins(size_t(2 * size * n));
    Tensor memory = empty({n, all.weights()}, dtype_of<T>());
    parallel_for(n, 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        if (all.map(r).h > 0)
          all.make_bins(r, bins.data() + 2 * size * r, memory.data<T>() + r * all.weights());
    });

    // The list: counted, then filled in the order of the RoIs.
    const auto each_line = [&](const auto& f) {  // f(RoI, line)
      for (int64_t r = 0; r < n; ++r) {
        const auto [begin, end] = roi_span(bins.data() + 2 * size * r, size);
        for (int row = begin; row < end; ++row)
          f(r, lines[size_t(first_line[size_t(all.level(r))] + all.image(r) * all.map(r).h + row)]);
      }
    };
    each_line([](int64_t, Line& l) { ++l.end; });
    int64_t count = 0;
    for (Line& l : lines) {
      l.begin = count;
      count += std::exchange(l.end, count);
    }
    std::vector<int64_t> readers(static_cast<size_t>(count));
    each_line([&](int64_t r, Line& l) { readers[size_t(l.end++)] = r; });
    std::vector<int64_t> costs{0};  // of all lines before each: about the pixels that are written
    for (const Line& l : lines) {
      int64_t cost = sizes[size_t(l.map)].w;
      for (int64_t k = l.begin; k < l.end; ++k) {
        const auto [begin, end] =
            roi_span(bins.data() + 2 * size * readers[size_t(k)] + size, size);
        cost += 3 * size + 2 * (end - begin);
      }
      costs.push_back(costs.back() + cost);
    }

    RowSums<S> sums(widest * c);
    parallel_for(costs.back(), 1 << 10, [&](int64_t begin, int64_t end) {
      const auto first = std::lower_bound(costs.begin(), costs.end(), begin) - costs.begin();
      for (auto i = size_t(first); i < lines.size() && costs[i] < end; ++i) {
        const Line& l = lines[i];
        const Grad& dx = dmaps[size_t(l.map)];
        const int64_t w = sizes[size_t(l.map)].w;
        S* const to = dx.tensor.data<S>() + (l.image * sizes[size_t(l.map)].h + l.row) * w * c;
        T* const line = sums.at(to);
        if (dx.accumulate)
          sums.load(to, w * c);
        else
          std::fill_n(line, w * c, T(0));
        for (int64_t k = l.begin; k < l.end; ++k) {
          const int64_t r = readers[size_t(k)];
          add_to_line(dy.data<S>() + r * size * size * c, bins.data() + 2 * size * r, all.factor(r),
                      size, int(l.row), c, line);
        }
        sums.store(to, w * c);
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
SG_REGISTER_SIMD(kernels::roi_align_fwd, forward);
SG_REGISTER_SIMD(kernels::roi_align_bwd, backward);
}  // namespace
}  // namespace sg
#endif
