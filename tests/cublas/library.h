// A stand-in for cuBLASLt, as a shared library of its name: column-major products on the host, and
// what was asked of it. So core/cuda/gemm.cpp runs where there is no card.
#pragma once
#include <cstdint>

namespace sg::test {

struct CublasLt {
  int searches = 0, products = 0;  // so far
  uint64_t workspace = 0;          // of the last search
  uint32_t reductions = 0;         // the schemes that it allowed
  uint32_t alignment_a = 0, alignment_b = 0;
  bool none = false;          // a search finds nothing
  bool none_fused = false;    // nor where a bias or its gradient goes with the product
  float bias_grad_waves = 1;  // of algorithms that sum b's columns on the way
};
CublasLt& cublaslt();

}  // namespace sg::test
