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

// kBlocks rows at a time, four pixels of each: a vector is a pixel of every row as (r, g, b, 0).
void resize_rows(const uint8_t* const* in, int rows, const Taps& taps, int width, uint8_t* out,
                 size_t pitch) {
  static_assert(kTapBlock == 4);
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
  const hn::Repartition<int16_t, I32> d16;
  const AllBytes bytes;
  const auto pixel0 = hn::LoadDup128(bytes, kPixel[0]), pixel1 = hn::LoadDup128(bytes, kPixel[1]);
  const auto pixel2 = hn::LoadDup128(bytes, kPixel[2]), pixel3 = hn::LoadDup128(bytes, kPixel[3]);
  const auto dense = hn::LoadDup128(bytes, kDense);
  const auto zero = hn::Zero(d16), most = hn::Set(d16, 255);

  for (int y = 0; y < rows; y += kBlocks) {
    const uint8_t* from[kBlocks];
    uint8_t* to[kBlocks];
    for (int k = 0; k < kBlocks; ++k) {  // where fewer are left, the last one is made again
      const int row = std::min(y + k, rows - 1);
      from[k] = in[row], to[k] = out + size_t(row) * pitch;
    }
    const auto resized = [&](int i) HWY_ATTR {
      const int32_t* w = taps.weights_of(i);
      size_t at = size_t(taps.first[size_t(i)]) * 3;
      auto sum = hn::Set(d, kHalf);
      const auto add = [&](hn::Vec<AllBytes> pixels, hn::Vec<AllBytes> pixel, int t) HWY_ATTR {
        const auto values = hn::BitCast(d, hn::TableLookupBytesOr0(pixels, pixel));
        sum = hn::Add(sum, hn::Mul(values, hn::Set(d, w[t])));
      };
      for (int t = 0; t < taps.stride; t += 4, at += 12) {
        const auto pixels = load_blocks(bytes, from, at);
        add(pixels, pixel0, t), add(pixels, pixel1, t + 1);
        add(pixels, pixel2, t + 2), add(pixels, pixel3, t + 3);
      }
      return hn::ShiftRight<kFractionBits>(sum);
    };
    for (int i = 0; i < width; i += 4) {
      const auto two = [&](int k) HWY_ATTR {
        const auto pair = hn::ReorderDemote2To(d16, resized(i + k), resized(i + k + 1));
        return hn::Min(hn::Max(pair, zero), most);
      };
      const auto low = two(0), high = two(2);
      const auto mixed = hn::BitCast(bytes, hn::Or(low, hn::ShiftLeft<8>(high)));
      store_blocks(hn::TableLookupBytesOr0(mixed, dense), bytes, to, size_t(i) * 3);
    }
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
