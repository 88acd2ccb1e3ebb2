// A stand-in for cuBLASLt, as a shared library of its name: column-major matmuls on the host, and
// what was asked of it. So core/cuda/gemm.cpp runs where there is no GPU.
#pragma once
#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace sg::test {

struct Algorithm {
  float waves = 2;
  int splits = 1;  // of the sum
  bool works = true;
};

struct CublasLt {
  int searches = 0, matmuls = 0;  // so far
  uint64_t workspace = 0;         // of the last search
  uint32_t reductions = 0;        // the schemes that it allowed
  uint32_t alignment_a = 0, alignment_b = 0;
  // What searches find, best first: without an epilogue or with a bias; with the sums of b's
  // columns.
  std::vector<Algorithm> algorithms{{.works = false}, {}};
  std::vector<Algorithm> bias_grad_algorithms{{.works = false}, {}};
  size_t taken = 0;  // of them, by the last matmul
  // Call -> what it ends with: of any matmul; of those with an epilogue, as far as the call knows.
  std::map<std::string, cublasStatus_t> failing, failing_fused;
};
CublasLt& cublaslt();

}  // namespace sg::test
