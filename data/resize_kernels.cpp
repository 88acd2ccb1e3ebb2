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

void resize_row(const uint8_t* in, const int* first, const int* count, const int32_t* lanes,
                int stride, int width, uint8_t* out) {
  for (int i = 0; i < width; ++i)
    for (int c = 0; c < 3; ++c) {
      const uint8_t* p = in + size_t(first[i]) * 3 + c;
      const int32_t* w = lanes + size_t(i) * size_t(stride) * 4;
      int32_t sum = kHalf;
      for (int t = 0; t < count[i]; ++t) sum += p[t * 3] * w[t * 4];
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
using Block = hn::FixedTag<int32_t, 4>;
constexpr int kPixels = int(hn::MaxLanes(I32())) / 4;

// Loads kPixels consecutive RGB pixels as (r, g, b, ?) in int32.
template <class D>
HWY_INLINE hn::Vec<D> load_pixels(D d, const uint8_t* p) {
  if constexpr (kPixels == 1) {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<uint8_t, D>(), p));
  } else {
    alignas(16) static constexpr uint8_t kSpread[16] = {0, 1, 2, 2, 3, 4,  5,  5,
                                                        6, 7, 8, 8, 9, 10, 11, 11};
    const hn::FixedTag<uint8_t, 16> whole;
    const auto spread = hn::TableLookupBytes(hn::LoadU(whole, p), hn::Load(whole, kSpread));
    if constexpr (kPixels == 4)
      return hn::PromoteTo(d, spread);
    else
      return hn::PromoteTo(d, hn::LowerHalf(hn::Half<decltype(whole)>(), spread));
  }
}

template <class V>
HWY_INLINE hn::Vec<Block> sum_blocks(V v) {
  using D = hn::DFromV<V>;
  if constexpr (hn::MaxLanes(D()) == 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return sum_blocks(hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

void resize_row(const uint8_t* in, const int* first, const int* count, const int32_t* lanes,
                int stride, int width, uint8_t* out) {
  const I32 d;
  const Block block;
  const hn::Rebind<uint8_t, Block> bytes;
  for (int i = 0; i < width; ++i) {
    const uint8_t* p = in + size_t(first[i]) * 3;
    const int32_t* w = lanes + size_t(i) * size_t(stride) * 4;
    auto sum = hn::Zero(d);
    for (int t = 0; t < count[i]; t += kPixels)
      sum = hn::Add(sum, hn::Mul(load_pixels(d, p + t * 3), hn::LoadU(d, w + t * 4)));
    const auto total = hn::Add(sum_blocks(sum), hn::Set(block, kHalf));
    // The fourth byte is overwritten by the next pixel.
    hn::StoreU(hn::DemoteTo(bytes, hn::ShiftRight<kFractionBits>(total)), bytes, out + i * 3);
  }
}

// Bytes [0, kVectors * lanes) of the sum; several vectors at a time hide the multiplier's latency.
template <int kVectors>
HWY_INLINE void blend_columns(const uint8_t* rows, size_t row_stride, const int32_t* weights,
                              int count, uint8_t* out) {
  const I32 d;
  const U8 bytes;
  const size_t n = hn::Lanes(d);
  hn::Vec<I32> sum[kVectors];
  for (auto& s : sum) s = hn::Set(d, kHalf);
  for (int t = 0; t < count; ++t, rows += row_stride) {
    const auto w = hn::Set(d, weights[t]);
    for (size_t v = 0; v < kVectors; ++v)
      sum[v] = hn::Add(sum[v], hn::Mul(hn::PromoteTo(d, hn::LoadU(bytes, rows + v * n)), w));
  }
  for (size_t v = 0; v < kVectors; ++v)
    hn::StoreU(hn::DemoteTo(bytes, hn::ShiftRight<kFractionBits>(sum[v])), bytes, out + v * n);
}

void blend_rows(const uint8_t* rows, size_t row_stride, const int32_t* weights, int count,
                size_t bytes, uint8_t* out) {
  constexpr int kVectors = 4;
  const size_t n = hn::Lanes(I32()), wide = n * kVectors;
  size_t j = 0;
  for (; j + wide <= bytes; j += wide)
    blend_columns<kVectors>(rows + j, row_stride, weights, count, out + j);
  for (; j + n <= bytes; j += n) blend_columns<1>(rows + j, row_stride, weights, count, out + j);
  if (j < bytes) {  // nothing may be written past the end: the next bytes are another thread's
    uint8_t tail[hn::MaxLanes(I32())];
    blend_columns<1>(rows + j, row_stride, weights, count, tail);
    std::memcpy(out + j, tail, bytes - j);
  }
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace sg::data
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg::data {

HWY_EXPORT(resize_row);
HWY_EXPORT(blend_rows);

void resize_row(const uint8_t* in, const int* first, const int* count, const int32_t* lanes,
                int stride, int width, uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(resize_row)(in, first, count, lanes, stride, width, out);
}

void blend_rows(const uint8_t* rows, size_t row_stride, const int32_t* weights, int count,
                size_t bytes, uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(blend_rows)(rows, row_stride, weights, count, bytes, out);
}

}  // namespace sg::data
#endif
