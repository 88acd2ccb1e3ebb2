#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/resize_kernels.cpp"
#include <hwy/foreach_target.h>
// Highway's own rule: after foreach_target.
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "data/resize_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace sg::data {
namespace HWY_NAMESPACE {

constexpr int32_t kHalf = 1 << (kFractionBits - 1);

#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE

uint8_t rounded(int32_t sum) { return uint8_t(std::clamp(sum >> kFractionBits, 0, 255)); }

void resize_rows(const uint8_t* const* in, int rows, const Taps& taps, int width, uint8_t* out,
                 size_t pitch) {
  for (int y = 0; y < rows; ++y, out += pitch)
    for (int i = 0; i < width; ++i)
      for (int c = 0; c < 3; ++c) {
        const uint8_t* p = in[y] + size_t(taps.first[size_t(i)]) * 3 + c;
        const int32_t* w = taps.weights_of(i);
        int32_t sum = kHalf;
        for (int t = 0; t < taps.stride; ++t) sum += p[t * 3] * w[t];
        out[i * 3 + c] = rounded(sum);
      }
}

void blend_rows(const uint8_t* rows, size_t row_stride, const int32_t* weights, int count,
                size_t bytes, uint8_t* out) {
  for (size_t j = 0; j < bytes; ++j) {
    int32_t sum = kHalf;
    for (int t = 0; t < count; ++t) sum += rows[size_t(t) * row_stride + j] * weights[t];
    out[j] = rounded(sum);
  }
}

#else

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes: four pixels, one in each 128-bit block.
using I32 = hn::CappedTag<int32_t, 16>;
using U8 = hn::Rebind<uint8_t, I32>;
constexpr int kBlocks = int(hn::MaxLanes(I32())) / 4;

using AllBytes = hn::Repartition<uint8_t, I32>;

// The 16 bytes at `at` of each row, a block a row.
template <class D>
HWY_INLINE hn::Vec<D> load_blocks(D d, const uint8_t* const* rows, size_t at) {
  if constexpr (hn::MaxLanes(d) == 16) {
    return hn::LoadU(d, rows[0] + at);
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, load_blocks(half, rows + hn::MaxLanes(half) / 16, at),
                       load_blocks(half, rows, at));
  }
}

template <class D>
HWY_INLINE void store_blocks(hn::Vec<D> v, D d, uint8_t* const* rows, size_t at) {
  if constexpr (hn::MaxLanes(d) == 16) {
    hn::StoreU(v, d, rows[0] + at);
  } else {
    const hn::Half<D> half;
    store_blocks(hn::LowerHalf(half, v), half, rows, at);
    store_blocks(hn::UpperHalf(half, v), half, rows + hn::MaxLanes(half) / 16, at);
  }
}

// Sums of two pixels as bytes, each in 16 bits.
HWY_INLINE hn::Vec<hn::Repartition<int16_t, I32> > to_bytes(hn::Vec<I32> a, hn::Vec<I32> b) {
  const hn::Repartition<int16_t, I32> d;
  const auto both =
      hn::ReorderDemote2To(d, hn::ShiftRight<kFractionBits>(a), hn::ShiftRight<kFractionBits>(b));
  return hn::Min(hn::Max(both, hn::Zero(d)), hn::Set(d, 255));
}

// kBlocks rows at a time, four pixels of each: a vector is a pixel of every row as (r, g, b, 0).
void resize_rows(const uint8_t* const* in, int rows, const Taps& taps, int width, uint8_t* out,
                 size_t pitch) {
  static_assert(kPixelBlock == 4);
  constexpr uint8_t o = 0x80;  // gives 0
  alignas(16) static constexpr uint8_t kPixel[4][16] = {
      {0, o, o, o, 1, o, o, o, 2, o, o, o, o, o, o, o},
      {3, o, o, o, 4, o, o, o, 5, o, o, o, o, o, o, o},
      {6, o, o, o, 7, o, o, o, 8, o, o, o, o, o, o, o},
      {9, o, o, o, 10, o, o, o, 11, o, o, o, o, o, o, o}};
  // Of bytes that alternate between pixels 0 and 1, and pixels 2 and 3.
  alignas(16) static constexpr uint8_t kDense[16] = {0, 2, 4,  8,  10, 12, 1, 3,
                                                     5, 9, 11, 13, o,  o,  o, o};
  const I32 d;
  const AllBytes bytes;
  const auto pixel0 = hn::LoadDup128(bytes, kPixel[0]), pixel1 = hn::LoadDup128(bytes, kPixel[1]);
  const auto pixel2 = hn::LoadDup128(bytes, kPixel[2]), pixel3 = hn::LoadDup128(bytes, kPixel[3]);
  const auto dense = hn::LoadDup128(bytes, kDense);
  const int stride = taps.stride;
  for (int y = 0; y < rows; y += kBlocks) {
    const uint8_t* from[kBlocks];
    uint8_t* to[kBlocks];
    for (int k = 0; k < kBlocks; ++k) {  // where fewer are left, the last one is made again
      const int row = std::min(y + k, rows - 1);
      from[k] = in[row], to[k] = out + size_t(row) * pitch;
    }
    const int* first = taps.first.data();
    for (int i = 0; i < width; i += 4, first += 4) {
      const int32_t* w = taps.weights_of(i);
      auto sum0 = hn::Set(d, kHalf), sum1 = sum0, sum2 = sum0, sum3 = sum0;
      const auto add = [&](hn::Vec<I32> sum, int i, int t) HWY_ATTR {
        const auto pixels = load_blocks(bytes, from, size_t(first[i] + t) * 3);
        const int32_t* weights = w + i * stride + t;
        const auto term = [&](auto which, int k) HWY_ATTR {
          const auto values = hn::BitCast(d, hn::TableLookupBytesOr0(pixels, which));
          return hn::Mul(values, hn::Set(d, weights[k]));
        };
        sum = hn::Add(sum, term(pixel0, 0));
        if (t + 1 < stride) sum = hn::Add(sum, term(pixel1, 1));
        if (t + 2 < stride) sum = hn::Add(sum, term(pixel2, 2));
        if (t + 3 < stride) sum = hn::Add(sum, term(pixel3, 3));
        return sum;
      };
      for (int t = 0; t < stride; t += 4) {
        sum0 = add(sum0, 0, t), sum1 = add(sum1, 1, t);
        sum2 = add(sum2, 2, t), sum3 = add(sum3, 3, t);
      }
      const auto low = to_bytes(sum0, sum1), high = to_bytes(sum2, sum3);
      const auto mixed = hn::BitCast(bytes, hn::Or(low, hn::ShiftLeft<8>(high)));
      store_blocks(hn::TableLookupBytesOr0(mixed, dense), bytes, to, size_t(i) * 3);
    }
  }
}

// The next lanes of the sum.
HWY_INLINE void blend_vector(const uint8_t* rows, size_t row_stride, const int32_t* weights,
                             int count, uint8_t* out) {
  const I32 d;
  auto sum = hn::Set(d, kHalf);
  for (int t = 0; t < count; ++t, rows += row_stride)
    sum = hn::Add(sum, hn::Mul(hn::PromoteTo(d, hn::LoadU(U8(), rows)), hn::Set(d, weights[t])));
  hn::StoreU(hn::DemoteTo(U8(), hn::ShiftRight<kFractionBits>(sum)), U8(), out);
}

// Four vectors at a time hide the multiplier's latency. Each is written out by name, as compilers
// keep no array in registers.
HWY_INLINE void blend_four(const uint8_t* rows, size_t row_stride, const int32_t* weights,
                           int count, uint8_t* out) {
  const I32 d;
  const U8 bytes;
  const size_t n = hn::Lanes(d);
  auto sum0 = hn::Set(d, kHalf), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  for (int t = 0; t < count; ++t, rows += row_stride) {
    const auto w = hn::Set(d, weights[t]);
    const auto term = [&](size_t v) HWY_ATTR {
      return hn::Mul(hn::PromoteTo(d, hn::LoadU(bytes, rows + v * n)), w);
    };
    sum0 = hn::Add(sum0, term(0)), sum1 = hn::Add(sum1, term(1));
    sum2 = hn::Add(sum2, term(2)), sum3 = hn::Add(sum3, term(3));
  }
  const auto store = [&](size_t v, hn::Vec<I32> sum) HWY_ATTR {
    hn::StoreU(hn::DemoteTo(bytes, hn::ShiftRight<kFractionBits>(sum)), bytes, out + v * n);
  };
  store(0, sum0), store(1, sum1), store(2, sum2), store(3, sum3);
}

void blend_rows(const uint8_t* rows, size_t row_stride, const int32_t* weights, int count,
                size_t bytes, uint8_t* out) {
  const size_t n = hn::Lanes(I32());
  size_t j = 0;
  for (; j + 4 * n <= bytes; j += 4 * n) blend_four(rows + j, row_stride, weights, count, out + j);
  for (; j + n <= bytes; j += n) blend_vector(rows + j, row_stride, weights, count, out + j);
  if (j < bytes) {  // nothing may be written past the end: the next bytes are another thread's
    uint8_t tail[hn::MaxLanes(I32())];
    blend_vector(rows + j, row_stride, weights, count, tail);
    std::memcpy(out + j, tail, bytes - j);
  }
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace sg::data
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg::data {

HWY_EXPORT(resize_rows);
HWY_EXPORT(blend_rows);

void resize_rows(const uint8_t* const* in, int rows, const Taps& taps, int width, uint8_t* out,
                 size_t pitch) {
  HWY_DYNAMIC_DISPATCH(resize_rows)(in, rows, taps, width, out, pitch);
}

void blend_rows(const uint8_t* rows, size_t row_stride, const int32_t* weights, int count,
                size_t bytes, uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(blend_rows)(rows, row_stride, weights, count, bytes, out);
}

}  // namespace sg::data
#endif
