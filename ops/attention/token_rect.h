#pragma once
#include <cstdint>

namespace sg::kernels {

// A rectangle of tokens in a map `stride` wide, on the host and in CUDA kernels. Its tokens are
// numbered in row-major order.
template <class Int>
struct TokenRect {
  Int y, x, w, count, stride;  // count: of its tokens
  uint32_t inverse;            // of w: 2^32 / w rounded up; 0 where it does not serve all tokens

  // Where token i lies in the map.
  constexpr int64_t token(Int i) const {
    if (w == stride) return int64_t{y} * stride + i;
    const Int row = inverse ? Int(uint64_t{uint32_t(i)} * inverse >> 32) : i / w;
    return int64_t{y + row} * stride + x + (i - row * w);
  }
};

template <class Int>
constexpr TokenRect<Int> token_rect(Int y, Int x, Int h, Int w, Int stride) {
  // i * inverse >> 32 is i / w as long as i * w < 2^32.
  const bool serves = w > 1 && uint64_t{uint32_t(w)} * w * h < (uint64_t{1} << 32);
  return {y, x, w, h * w, stride, serves ? 0xffffffffu / uint32_t(w) + 1 : 0};
}

}  // namespace sg::kernels
