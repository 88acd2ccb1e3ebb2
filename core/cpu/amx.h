// Tiles of AMX: eight registers of 16 rows of 64 bytes. Only for code that runs where has_amx().
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace sg::amx {

constexpr int kRows = 16, kRowBytes = 64;
constexpr int kPairs = 16;  // of bf16 in a row: terms of a sum that one instruction adds, in twos

// What tile i holds: rows, and bytes a row. The processor's own format.
struct alignas(64) Shapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  constexpr void set(int tile, int64_t r, int64_t bytes) {
    rows[tile] = uint8_t(r), row_bytes[tile] = uint16_t(bytes);
  }
  static constexpr Shapes whole() {
    Shapes s;
    for (int tile = 0; tile < 8; ++tile) s.set(tile, kRows, kRowBytes);
    return s;
  }
};
static_assert(sizeof(Shapes) == 64);

// In the scope this thread's tiles have those shapes. About 50 ns, and it clears them. oneDNN sets
// and leaves tiles in each call: none may be made in the scope.
class Scope {
 public:
  explicit Scope(const Shapes& shapes) { configure(shapes); }
  ~Scope() { asm volatile("tilerelease" ::: "memory"); }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  static void configure(const Shapes& shapes) {
    asm volatile("ldtilecfg %0" ::"m"(shapes) : "memory");
  }
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

}  // namespace sg::amx
