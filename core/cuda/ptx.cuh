// PTX instructions that C++ cannot express. tests/emulation/core/cuda/ptx.cuh says what each means.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

#include "core/dtype.h"

namespace sg::cuda {

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(bf16 v) { return float(v); }
template <class T>
__device__ __forceinline__ T from_float(float v);
template <>
__device__ __forceinline__ float from_float<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float v) {
  bf16 b;
  b.bits = __bfloat16_as_ushort(__float2bfloat16_rn(v));
  return b;
}
// Two bf16 in a register, `low` in the low half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// The value that lane ^ mask, or lane `lane`, of the warp holds; all 32 lanes take part.
template <class T>
__device__ __forceinline__ T shuffle_xor(T v, int mask) {
  return __shfl_xor_sync(0xffffffffu, v, mask);
}
template <class T>
__device__ __forceinline__ T shuffle(T v, int lane) {
  return __shfl_sync(0xffffffffu, v, lane);
}
// Bit i: what lane i says.
__device__ __forceinline__ uint32_t ballot(bool v) { return __ballot_sync(0xffffffffu, v); }

// 1 / b, a / b and 2^x within 2 units in the last place; b is between 2^-126 and 2^126, or
// infinite.
__device__ __forceinline__ float reciprocal(float b) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(b));
  return r;
}
__device__ __forceinline__ float divide(float a, float b) { return a * reciprocal(b); }
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A rounded product that no addition is fused with.
__device__ __forceinline__ float multiply(float a, float b) { return __fmul_rn(a, b); }
// Sine and cosine of pi x.
__device__ __forceinline__ void sincos_pi(float x, float& sine, float& cosine) {
  sincospif(x, &sine, &cosine);
}

// d (16 x 8, f32) += a (16 x 16) b (16 x 8), bf16, spread over a warp. Lane l = 4 g + t holds
//   a[0]: row g,     columns 2t, 2t+1    a[2]: row g,     columns 2t+8, 2t+9
//   a[1]: row g + 8, columns 2t, 2t+1    a[3]: row g + 8, columns 2t+8, 2t+9
//   b[0]: rows 2t, 2t+1, column g        b[1]: rows 2t+8, 2t+9, column g
//   d[0], d[1]: row g, columns 2t, 2t+1  d[2], d[3]: row g + 8
__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of bf16 from shared memory: lane l gives the address of row l % 8 of matrix
// l / 8 (16 bytes, aligned). Lane 4 g + t gets of matrix i, in r[i], row g, columns 2t and 2t + 1;
// transposed: rows 2t and 2t + 1 of column g.
template <bool transposed>
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
  const uint32_t at = uint32_t(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

// 16 bytes from global to shared memory without registers; `bytes` 0 fills them with zeros instead.
// Both addresses are multiples of 16. Groups of copies are committed, and waited for until at most
// `pending` of the latest groups of this thread are under way (then a barrier shows them to
// others).
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, int bytes = 16) {
  const uint32_t to = uint32_t(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int pending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

}  // namespace sg::cuda
