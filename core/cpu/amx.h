// Tiles of AMX: eight registers of 16 rows of 64 bytes. Only for code that runs where has_amx().
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace sg::amx {

constexpr int kRows = 16, kRowBytes = 64;
constexpr int kPairs = 16;  // of bf16 in a row: terms of a sum that one instruction adds, in twos

// What each tile holds, in the processor's own format: kRows rows of kRowBytes.
struct alignas(64) Shapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  constexpr Shapes() {
    for (int tile = 0; tile < 8; ++tile) row_bytes[tile] = kRowBytes, rows[tile] = kRows;
  }
};
static_assert(sizeof(Shapes) == 64);

// In the scope this thread has whole tiles. About 50 ns, and it clears them. oneDNN sets and leaves
// tiles in each call: none may be made in the scope.
class Scope {
 public:
  Scope() {
    static constexpr Shapes whole;
    asm volatile("ldtilecfg %0" ::"m"(whole) : "memory");
  }
  ~Scope() { asm volatile("tilerelease" ::: "memory"); }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
};

// The instructions on whole tiles, 0 to 7; rows in memory are `stride` bytes apart. The compiler
// keeps them in order with loads and stores of memory, which it would not with the intrinsics of
// GCC 12.
template <int tile>
inline __attribute__((always_inline)) void zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}
template <int tile>
inline __attribute__((always_inline)) void load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
inline __attribute__((always_inline)) void store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
}
// c += a b in float: rows of a are pairs of bf16 along the sum; a row of b holds, for each column,
// a pair along the sum.
template <int c, int a, int b>
inline __attribute__((always_inline)) void multiply_add() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}

// A matrix of tiles in memory; distances in bytes.
template <class Byte>
struct TileRows {
  Byte* data;
  int64_t row;        // of rows of a tile
  int64_t down = 0;   // of a tile to that below
  int64_t right = 0;  // of a tile to the next
};

// R x C tiles of c (at most 2 x 2) = a b, plus c itself if `add`: a has `terms` tiles side by side,
// b has them one below the other.
template <int R, int C, bool add>
inline __attribute__((always_inline)) void multiply(int64_t terms, TileRows<const std::byte> a,
                                                    TileRows<const std::byte> b,
                                                    TileRows<std::byte> c) {
  const auto start = [&]<int tile>(int64_t offset) __attribute__((always_inline)) {
    if constexpr (add)
      load<tile>(c.data + offset, c.row);
    else
      zero<tile>();
  };
  start.template operator()<0>(0);
  if constexpr (C > 1) start.template operator()<1>(c.right);
  if constexpr (R > 1) start.template operator()<2>(c.down);
  if constexpr (R > 1 && C > 1) start.template operator()<3>(c.down + c.right);
  for (int64_t t = 0; t < terms; ++t, a.data += a.right, b.data += b.down) {
    load<6>(b.data, b.row);
    load<4>(a.data, a.row);
    multiply_add<0, 4, 6>();
    if constexpr (C > 1) load<7>(b.data + b.right, b.row);
    if constexpr (C > 1) multiply_add<1, 4, 7>();
    if constexpr (R > 1) load<5>(a.data + a.down, a.row);
    if constexpr (R > 1) multiply_add<2, 5, 6>();
    if constexpr (R > 1 && C > 1) multiply_add<3, 5, 7>();
  }
  store<0>(c.data, c.row);
  if constexpr (C > 1) store<1>(c.data + c.right, c.row);
  if constexpr (R > 1) store<2>(c.data + c.down, c.row);
  if constexpr (R > 1 && C > 1) store<3>(c.data + c.down + c.right, c.row);
}

// GCC 12 warns of what its intrinsics leave undefined on purpose.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"

// A tile of `from` transposed to `to`, which is aligned to 64 bytes: pairs of bf16 stay pairs. Rows
// in memory are from_stride and to_stride bytes apart.
__attribute__((target("avx512f"))) inline void transpose(const void* from, int64_t from_stride,
                                                         void* to, int64_t to_stride) {
  const auto row = [=](int64_t i) { return static_cast<const uint8_t*>(from) + i * from_stride; };
  for (int64_t column = 0; column < kPairs; column += 4) {
    // Of rows i, i + 4, i + 8 and i + 12: what permutations of whole registers would do, but by
    // loads.
    const auto four_of = [=](int64_t i) __attribute__((target("avx512f"))) {
      const auto part = [=](int64_t r) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row(i + r) + 4 * column));
      };
      __m512i v = _mm512_castsi128_si512(part(0));
      v = _mm512_mask_broadcast_i32x4(v, 0x00f0, part(4));
      v = _mm512_mask_broadcast_i32x4(v, 0x0f00, part(8));
      return _mm512_mask_broadcast_i32x4(v, 0xf000, part(12));
    };
    const __m512i a = four_of(0), b = four_of(1), c = four_of(2), d = four_of(3);
    const __m512i ab_low = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b),
                  cd_low = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
    uint8_t* const at = static_cast<uint8_t*>(to) + column * to_stride;
    _mm512_store_si512(at, _mm512_unpacklo_epi64(ab_low, cd_low));
    _mm512_store_si512(at + to_stride, _mm512_unpackhi_epi64(ab_low, cd_low));
    _mm512_store_si512(at + 2 * to_stride, _mm512_unpacklo_epi64(ab_high, cd_high));
    _mm512_store_si512(at + 3 * to_stride, _mm512_unpackhi_epi64(ab_high, cd_high));
  }
}

#pragma GCC diagnostic pop

}  // namespace sg::amx
