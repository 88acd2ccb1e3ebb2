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

// The instructions on whole tiles; rows in memory are `row_bytes` apart. The compiler keeps them in
// order with loads and stores of memory, which it would not with the intrinsics of GCC 12.
template <int kTile>
void load(const void* from, int64_t row_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(row_bytes), "i"(kTile) : "memory");
}
template <int kTile>
void store(void* to, int64_t row_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(row_bytes), "i"(kTile) : "memory");
}
template <int kTile>
void clear() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
// Tile c += a b, where b holds pairs of rows.
template <int kC, int kA, int kB>
void multiply_add() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
}

}  // namespace sg::amx
