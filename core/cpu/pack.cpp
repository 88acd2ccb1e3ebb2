#include "core/cpu/pack.h"

#include <algorithm>
#include <cstring>

#include "core/cpu/parallel.h"

namespace sg {
namespace {

// Vectors of 16 bytes, which all processors have, are enough: memory is the limit.
using U16x8 [[gnu::vector_size(16)]] = uint16_t;
using U32x4 [[gnu::vector_size(16)]] = uint32_t;

template <class V>
V load(const bf16* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class V>
void store(V v, bf16* to) {
  std::memcpy(to, &v, sizeof v);
}

// 2 rows of 8 columns; `pair` is the distance between pairs of rows in the result.
struct Rows {
  static constexpr bool kTransposed = false;
  static constexpr int64_t kRows = 2, kColumns = 8, kColumnsAtOnce = 64;
  static void tile(const bf16* from, int64_t stride, bf16* to, int64_t /*pair*/) {
    const auto a = load<U16x8>(from), b = load<U16x8>(from + stride);
    store(__builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11), to);
    store(__builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15), to + 8);
  }
};

// 8 rows of 4 columns of a matrix that lies in memory as its transpose.
struct Transposed {
  static constexpr bool kTransposed = true;
  static constexpr int64_t kRows = 8, kColumns = 4;
  static constexpr int64_t kColumnsAtOnce = 16;  // a cache line of the result
  static void tile(const bf16* from, int64_t stride, bf16* to, int64_t pair) {
    const auto a = load<U32x4>(from), b = load<U32x4>(from + stride),
               c = load<U32x4>(from + 2 * stride), d = load<U32x4>(from + 3 * stride);
    const auto ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5),
               ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7),
               cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5),
               cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    store(__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), to);
    store(__builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7), to + pair);
    store(__builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), to + 2 * pair);
    store(__builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7), to + 3 * pair);
  }
};

constexpr int64_t kLine = 64 / sizeof(bf16);  // of cache

// Reads a byte of each line of `count` rows of memory. In the order of memory the processor fetches
// ahead, which makes weights that are in no cache arrive twice as fast as in the order of tiles.
void fetch(const bf16* data, int64_t count, int64_t size, int64_t stride) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < size; j += kLine)
      *reinterpret_cast<const volatile char*>(data + i * stride + j);
}

// One block of columns, of which the matrix has n.
template <class Order>
void pack_block(const PackedLayout& layout, int64_t n, GemmOperand<bf16> b, bf16* to) {
  const int64_t k = layout.k, width = layout.width(), pair = 2 * width;
  const auto from = [&](int64_t row, int64_t column) {
    return b.data + (Order::kTransposed ? column * b.stride + row : row * b.stride + column);
  };
  const int64_t whole_k = k / Order::kRows * Order::kRows,
                whole_n = n / Order::kColumns * Order::kColumns;
  if (Order::kTransposed) fetch(b.data, n, k, b.stride);
  for (int64_t c0 = 0; c0 < whole_n; c0 += Order::kColumnsAtOnce)
    for (int64_t r0 = 0; r0 < whole_k; r0 += kLine)
      for (int64_t c = c0; c < std::min(whole_n, c0 + Order::kColumnsAtOnce); c += Order::kColumns)
        for (int64_t r = r0; r < std::min(whole_k, r0 + kLine); r += Order::kRows)
          Order::tile(from(r, c), b.stride, to + r * width + 2 * c, pair);
  // What no tile covers.
  for (int64_t r = 0; r < layout.block_size() / width; ++r)
    for (int64_t c = r < whole_k ? whole_n : 0; c < width; ++c)
      to[r / 2 * pair + 2 * c + r % 2] = r < k && c < n ? *from(r, c) : bf16(0.f);
}

}  // namespace

void pack(const PackedLayout& layout, GemmOperand<bf16> b, bf16* to) {
  constexpr int64_t kGrain = 1 << 15;  // elements
  const int64_t width = layout.width(), size = layout.block_size();
  parallel_for(layout.blocks(), (kGrain + size - 1) / size, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t column = block * width, n = std::min(width, layout.n - column);
      GemmOperand<bf16> from = b;
      from.data += b.transposed ? column * b.stride : column;
      (b.transposed ? pack_block<Transposed> : pack_block<Rows>)(layout, n, from,
                                                                 to + block * size);
    }
  });
}

}  // namespace sg
