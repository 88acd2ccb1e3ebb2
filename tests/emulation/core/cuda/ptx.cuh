// What the instructions of core/cuda/ptx.cuh mean, in C++.
#pragma once
#include <cmath>
#include <cstring>
#include <numbers>

#include "core/dtype.h"
#include "tests/emulation/emulator.h"

namespace sg::cuda {

inline float to_float(float v) { return v; }
inline float to_float(bf16 v) { return float(v); }
template <class T>
T from_float(float v) {
  return T(v);
}
inline uint32_t pack_bf16(float low, float high) {
  return uint32_t(bf16(low).bits) | uint32_t(bf16(high).bits) << 16;
}
inline float low_bf16(uint32_t v) { return std::bit_cast<float>(v << 16); }
inline float high_bf16(uint32_t v) { return std::bit_cast<float>(v & 0xffff0000u); }

// Warp functions are not inlined: where they return to says where in the code a lane is.
template <class T>
[[gnu::noinline]] T shuffle(T v, int lane) {
  static_assert(std::is_trivially_copyable_v<T>);
  emulation::exchange(&v, sizeof v, __builtin_return_address(0));
  std::memcpy(&v, emulation::of_lane(lane & 31), sizeof v);
  return v;
}
template <class T>
[[gnu::always_inline]] inline T shuffle_xor(T v, int mask) {
  return shuffle(v, int(threadIdx.x & 31) ^ mask);
}
[[gnu::noinline]] inline uint32_t ballot(bool v) {
  emulation::exchange(&v, sizeof v, __builtin_return_address(0));
  uint32_t bits = 0;
  for (int lane = 0; lane < 32; ++lane)
    bits |= uint32_t(*static_cast<const bool*>(emulation::of_lane(lane))) << lane;
  return bits;
}

inline float reciprocal(float b) { return 1 / b; }
inline float divide(float a, float b) { return a / b; }
inline float exp2_fast(float x) { return std::exp2(x); }

inline float multiply(float a, float b) { return a * b; }
inline void sincos_pi(float x, float& sine, float& cosine) {
  const double angle = std::numbers::pi * double(x);
  sine = float(std::sin(angle)), cosine = float(std::cos(angle));
}

[[gnu::noinline]] inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4],
                                          const uint32_t (&b)[2]) {
  struct Fragment {
    uint32_t a[4], b[2];
  } own;
  std::memcpy(own.a, a, sizeof own.a), std::memcpy(own.b, b, sizeof own.b);
  emulation::exchange(&own, sizeof own, __builtin_return_address(0));
  const auto of = [](int lane) { return static_cast<const Fragment*>(emulation::of_lane(lane)); };
  const auto element = [](uint32_t pair, int k) {
    return k % 2 ? high_bf16(pair) : low_bf16(pair);
  };
  const int lane = int(threadIdx.x & 31), group = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    const int column = 2 * t + i % 2;  // of d and b; the row of d is group + 8 (i / 2)
    for (int k = 0; k < 16; ++k) {
      const Fragment& row = *of(4 * group + k % 8 / 2);
      const Fragment& other = *of(4 * column + k % 8 / 2);
      d[i] += element(row.a[i / 2 + 2 * (k / 8)], k) * element(other.b[k / 8], k);
    }
  }
}

template <bool transposed>
[[gnu::noinline]] void load_matrices(uint32_t (&r)[4], const void* row) {
  if (uintptr_t(row) % 16) emulation::fault_here("load_matrices of a row that is not aligned");
  emulation::exchange(&row, sizeof row, __builtin_return_address(0));
  const auto at = [](int matrix, int i, int j) {
    const void* p = nullptr;
    std::memcpy(&p, emulation::of_lane(8 * matrix + i), sizeof p);
    return uint32_t(static_cast<const uint16_t*>(p)[j]);
  };
  const int lane = int(threadIdx.x & 31), group = lane / 4, t = lane % 4;
  for (int m = 0; m < 4; ++m)
    r[m] = transposed ? at(m, 2 * t, group) | at(m, 2 * t + 1, group) << 16
                      : at(m, group, 2 * t) | at(m, group, 2 * t + 1) << 16;
}

inline void copy_async_16(void* shared, const void* global, int bytes = 16) {
  emulation::defer_copy(shared, global, size_t(bytes));
}
inline void commit_copies() { emulation::commit_copies(); }
template <int pending>
void wait_copies() {
  emulation::wait_copies(pending);
}

}  // namespace sg::cuda
