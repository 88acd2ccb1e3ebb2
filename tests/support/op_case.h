// One table of cases drives every test of an op. How to test an op: give run() its inputs in
// float64, the op, and the same thing composed of the naive ops of tests/support/naive.h.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "tests/support/skip.h"

namespace sg::test {

using Fn = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

// What an input of an op is where activations are bf16.
enum class Role {
  activation,  // bf16, and so is its gradient
  weight,      // operand of a matmul: bf16 with an f32 gradient
  parameter,   // f32
};

struct OpCase {
  std::string name;
  std::vector<Tensor> inputs;  // f64; other dtypes are passed as they are
  Fn op;
  Fn reference;              // composed form; may be empty where the op is elementary
  int64_t terms = 1;         // longest sum inside the op, from which the f32 bound is derived
  std::vector<bool> wanted;  // which inputs are differentiated; empty: all of f64
  double gradcheck_step = 1e-3;
  std::vector<Role> roles;  // of the inputs; empty: all activations
  int ops = 1;              // in a row; each has roundings to bf16 of its own
  bool cuda = true;         // is there a CUDA kernel?
};

// Checks relative errors in the Euclidean norm, of the whole tensor and of the worst row against
// its scale (tools/golden/relative_error.h), at the same bound:
// - f64 value and gradients against the reference, 1e-11;
// - f64 gradients against finite differences, 1e-6;
// - that a second backward adds to the gradients of the first (1e-11);
// - f32 value and gradients against f64: 8 * 2^-24 * sqrt(terms) + 1e-6 (the exp and erf that
//   kernels use), the growth of rounding errors in a sum of `terms` products.
// - bf16 value and gradients against f64 with the same rounded inputs: 4 * 2^-9 per op. A rounding
//   to bf16 errs by at most 2^-9, and no op has more than four in a row (operand, probability or
//   gradient inside, result); gradients that add up;
// - the same bits again, with another number of threads.
// The same on the device cuda (which is emulated where there is no GPU):
// - f32 value and gradients against f64, at the bound above; gradients that add up;
// - bf16 as on the CPU;
// - the same bits again, with threads in another order.
void run(const OpCase& c);

// Deterministic values in [-1, 1), f64; `stream` tells tensors apart.
Tensor random(Shape shape, uint64_t stream, double low = -1, double high = 1);

// The CPU, and cuda where it is there; where it is not, the case is skipped.
std::vector<Device> devices();

// |a - b| / |b| in the Euclidean norm (b == 0: |a|).
double relative_error(const Tensor& a, const Tensor& b);
// Checks relative_error(), and that of the worst row against its scale
// (tools/golden/relative_error.h).
void check_close(const Tensor& found, const Tensor& expected, double bound);

}  // namespace sg::test
