#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/aggregate/aggregate_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/aggregate/aggregate.h"
#include "ops/reduce_cpu.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

constexpr int64_t kGrain = 256;  // ranks a thread takes at least

// Ranks of an image, virtual ones included.
int64_t ranks_of(const std::vector<Region>& regions) {
  int64_t ranks = 0;
  for (const Region& region : regions) ranks += region.tokens * region.r;
  return ranks;
}

// f(image, region, chunk, first rank) for the chunks that begin at ranks [begin, end), counted
// through all images. Chunks differ in length, so threads share ranks, not chunks.
template <class F>
void for_chunks(const std::vector<Region>& regions, int64_t begin, int64_t end, const F& f) {
  const int64_t ranks = ranks_of(regions);
  for (int64_t image = ranks ? begin / ranks : 0; image * ranks < end; ++image) {
    int64_t first = image * ranks, chunk = 0;
    for (size_t i = 0; i < regions.size(); ++i) {
      const int64_t tokens = regions[i].tokens, r = regions[i].r;
      const auto before = [&](int64_t rank) {  // chunks of the region that begin before `rank`
        return std::clamp<int64_t>((rank - first + r - 1) / r, 0, tokens);
      };
      for (int64_t j = before(begin); j < before(end); ++j)
        f(image, i, chunk + j, first + j * r - image * ranks);
      first += tokens * r;
      chunk += tokens;
    }
  }
}

void forward(Stream&, In x, In order, const std::vector<Region>& regions,
             const std::vector<Tensor>& w, const std::vector<Tensor>& b, int64_t virtual_tokens,
             Out y) {
  dispatch<float, double, bf16>(x.dtype(), "aggregate", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t batch = x.dim(0), n = order.dim(1), c = x.dim(3);
    RowSums<S> sums(c);
    parallel_for(batch * ranks_of(regions), kGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
      for_chunks(
          regions, begin, end, [&](int64_t image, size_t i, int64_t chunk, int64_t first) HWY_ATTR {
            const int64_t r = regions[i].r;
            const int32_t* tokens = order.data<int32_t>() + image * n + first - virtual_tokens;
            const S* xp = x.data<S>() + image * n * c;
            const T* wp = w[i].data<T>();
            S* const row = y.data<S>() + (image * y.dim(2) + chunk) * c;
            T* const sum = sums.at(row);
            std::fill_n(sum, c, *b[i].data<T>());
            int64_t k = std::max<int64_t>(virtual_tokens - first, 0);  // virtual tokens are zeros
            // Four tokens at once: the sum is loaded and stored a quarter as often.
            for (; k + 4 <= r; k += 4) {
              const S *x0 = xp + tokens[k] * c, *x1 = xp + tokens[k + 1] * c,
                      *x2 = xp + tokens[k + 2] * c, *x3 = xp + tokens[k + 3] * c;
              for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
                auto v = hn::MulAdd(load(d, x0 + i), hn::Set(d, wp[k]), hn::LoadU(d, sum + i));
                v = hn::MulAdd(load(d, x1 + i), hn::Set(d, wp[k + 1]), v);
                v = hn::MulAdd(load(d, x2 + i), hn::Set(d, wp[k + 2]), v);
                v = hn::MulAdd(load(d, x3 + i), hn::Set(d, wp[k + 3]), v);
                hn::StoreU(v, d, sum + i);
              });
            }
            for (; k < r; ++k) {
              const S* x0 = xp + tokens[k] * c;
              for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
                const auto before = hn::LoadU(d, sum + i);
                hn::StoreU(hn::MulAdd(load(d, x0 + i), hn::Set(d, wp[k]), before), d, sum + i);
              });
            }
            sums.store(row, c);
          });
    });
  });
}

// dx[token of rank k of chunk j] = w[k] dy[j],  dw[k] = sum_j <dy[j], that token>,  db = sum dy.
void backward(Stream&, In dy, In x, In order, const std::vector<Region>& regions,
              const std::vector<Tensor>& w, int64_t virtual_tokens, Grad dx,
              const std::vector<Grad>& dw, const std::vector<Grad>& db) {
  dispatch<float, double, bf16>(x.dtype(), "aggregate", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t batch = x.dim(0), n = order.dim(1), c = x.dim(3);
    const int64_t ranks = batch * ranks_of(regions);
    // Partial sums of each part of the ranks: for each region from its offset on, r of dw, then one
    // of db.
    std::vector<int64_t> offsets;
    int64_t sums = 0;
    for (const Region& region : regions) offsets.push_back(sums), sums += region.r + 1;
    const int parts = chunks_of(ranks, kGrain);
    Tensor scratch = zeros({parts, sums}, dtype_of<T>());
    parallel_chunks(ranks, kGrain, [&](int part, int64_t begin, int64_t end) HWY_ATTR {
      for_chunks(
          regions, begin, end, [&](int64_t image, size_t i, int64_t chunk, int64_t first) HWY_ATTR {
            const int64_t r = regions[i].r;
            const int32_t* tokens = order.data<int32_t>() + image * n + first - virtual_tokens;
            const T* wp = w[i].data<T>();
            const S* dyp = dy.data<S>() + (image * dy.dim(2) + chunk) * c;
            T* sum = scratch.data<T>() + part * sums + offsets[i];
            sum[r] += sum_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR { return load(d, dyp + i); });
            for (int64_t k = std::max<int64_t>(virtual_tokens - first, 0); k < r; ++k) {
              const int64_t row = (image * n + tokens[k]) * c;
              const S* xp = x.data<S>() + row;
              S* dxp = dx ? dx.tensor.data<S>() + row : nullptr;
              sum[k] += sum_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
                const auto g = load(d, dyp + i);
                if (dxp) {
                  const auto v = hn::Mul(g, hn::Set(d, wp[k]));
                  store(dx.accumulate ? hn::Add(v, load(d, dxp + i)) : v, d, dxp + i);
                }
                return hn::Mul(g, load(d, xp + i));
              });
            }
          });
    });
    for (size_t i = 0; i < regions.size(); ++i) {
      const T* sum = scratch.data<T>() + offsets[i];
      sum_chunks(sum, parts, sums, dw[i]);
      sum_chunks(sum + regions[i].r, parts, sums, db[i]);
    }
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::aggregate_fwd, forward);
SG_REGISTER_SIMD(kernels::aggregate_bwd, backward);
}  // namespace
}  // namespace sg
#endif
