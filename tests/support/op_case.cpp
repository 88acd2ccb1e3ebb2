#include "tests/support/op_case.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "autograd/gradcheck.h"
#include "autograd/tape.h"
#include "core/cpu/parallel.h"
#include "core/rng.h"
#include "tests/support/faults.h"
#include "tools/golden/relative_error.h"

namespace sg::test {

using autograd::backward, autograd::grad_of, autograd::leaf, autograd::requires_grad;

Tensor random(Shape shape, uint64_t stream, double low, double high) {
  Random r(2, Purpose::test, stream);
  Tensor t = empty(shape, Dtype::f64);
  for (double& v : t.span<double>()) v = r.uniform(low, high);
  return t;
}

std::vector<Device> devices() {
  std::vector<Device> all{{}};
  if (have_cuda()) all.push_back(kCuda);
  return all;
}

double relative_error(const Tensor& a, const Tensor& b) { return relative_error_of(a, b).whole; }

void check_close(const Tensor& found, const Tensor& expected, double bound) {
  const RelativeError error = relative_error_of(found, expected);
  CHECK(error.whole <= bound);
  CHECK(error.worst_row <= bound);
}

namespace {

// CPU kernels share their work among another number of threads.
struct OtherThreadCount {
  int before = num_threads();
  OtherThreadCount() { set_num_threads(before == 3 ? 1 : 3); }
  ~OtherThreadCount() { set_num_threads(before); }
  OtherThreadCount(const OtherThreadCount&) = delete;
  OtherThreadCount& operator=(const OtherThreadCount&) = delete;
};

struct Result {
  std::vector<Tensor> outputs, gradients;
};

// How inputs are turned into leaves.
struct Setting {
  Device device;
  Dtype dtype = Dtype::f64;     // of activations and weights
  Dtype rounding = Dtype::f64;  // the values they have, and those of the gradients of outputs
  std::vector<Role> roles;

  Role role(size_t i) const { return roles.empty() ? Role::activation : roles[i]; }
  Tensor rounded(const Tensor& t, bool narrow) const {
    return narrow ? t.to(rounding).to(dtype).to(device) : t.to(acc_dtype(dtype)).to(device);
  }
};

// Runs f `times` times on the same leaves, so that gradients add up.
Result differentiate(const Fn& f, const std::vector<Tensor>& inputs,
                     const std::vector<bool>& wanted, int times = 1, const Setting& setting = {}) {
  Result r;
  std::vector<Tensor> leaves;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Tensor t = inputs[i];
    if (t && t.dtype() == Dtype::f64)
      t = setting.rounded(t, setting.role(i) != Role::parameter);
    else if (t)
      t = t.to(setting.device);
    Tensor buffer;
    if (setting.role(i) == Role::weight && wanted[i])
      buffer = empty(t.shape(), acc_dtype(t.dtype()), t.device());
    leaves.push_back(wanted[i] ? leaf(t, buffer) : t);
  }
  for (int t = 0; t < times; ++t) {
    r.outputs = f(leaves);
    std::vector<Tensor> on_tape, dy;
    for (size_t k = 0; k < r.outputs.size(); ++k) {
      const Tensor& y = r.outputs[k];
      if (!requires_grad(y)) continue;
      on_tape.push_back(y);
      // A wide output (a loss) has a gradient that is not rounded, in the reference too.
      dy.push_back(random(y.shape(), 100 + k).to(setting.rounding).to(y.dtype()).to(y.device()));
    }
    REQUIRE(!on_tape.empty());
    backward(on_tape, dy);
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    r.gradients.push_back(wanted[i] ? grad_of(leaves[i]) : Tensor());
  return r;
}

void compare(const char* what, const Result& a, const Result& b, double bound, double factor = 1) {
  CAPTURE(what);
  REQUIRE(a.outputs.size() == b.outputs.size());
  for (size_t k = 0; k < a.outputs.size(); ++k) {
    CAPTURE(k);
    check_close(a.outputs[k], b.outputs[k], bound);
  }
  for (size_t i = 0; i < a.gradients.size(); ++i) {
    if (!a.gradients[i] && !b.gradients[i]) continue;
    CAPTURE(i);
    REQUIRE(a.gradients[i].defined());
    REQUIRE(b.gradients[i].defined());
    Tensor expected = b.gradients[i].to(Device{}).to(Dtype::f64).clone();
    for (double& v : expected.span<double>()) v *= factor;
    check_close(a.gradients[i], expected, bound);
  }
}

void check_same_bits(const Result& a, const Result& b) {
  const auto check = [](const std::vector<Tensor>& x, const std::vector<Tensor>& y) {
    for (size_t i = 0; i < x.size(); ++i) {
      if (!x[i]) continue;
      CAPTURE(i);
      const Tensor p = x[i].detach().to(Device{}), q = y[i].detach().to(Device{});
      CHECK(std::memcmp(p.raw(), q.raw(), p.bytes()) == 0);
    }
  };
  check(a.outputs, b.outputs), check(a.gradients, b.gradients);
}

// Against f64 with the same rounded inputs; and the same bits from other threads.
void run_rounded(const OpCase& c, const std::vector<bool>& wanted, Device device, Dtype dtype) {
  CAPTURE(str(device));
  CAPTURE(name_of(dtype));
  const double bound =
      dtype == Dtype::bf16 ? c.ops * 4 * 0x1p-9 : 8 * 0x1p-24 * std::sqrt(double(c.terms)) + 1e-6;
  const Result expected =
      differentiate(c.op, c.inputs, wanted, 1, {{}, Dtype::f64, dtype, c.roles});
  const Setting setting{device, dtype, dtype, c.roles};
  const Result found = differentiate(c.op, c.inputs, wanted, 1, setting);
  compare("rounded", found, expected, bound);
  compare("rounded, twice", differentiate(c.op, c.inputs, wanted, 2, setting), expected, bound, 2);
  const OtherThreadOrder order;
  const OtherThreadCount count;
  check_same_bits(found, differentiate(c.op, c.inputs, wanted, 1, setting));
}

}  // namespace

void run(const OpCase& c) {
  CAPTURE(c.name);
  std::vector<bool> wanted = c.wanted;
  if (wanted.empty())
    for (const Tensor& t : c.inputs) wanted.push_back(t.defined() && t.dtype() == Dtype::f64);
  const Result op = differentiate(c.op, c.inputs, wanted);
  if (c.reference)
    compare("against the reference", op, differentiate(c.reference, c.inputs, wanted), 1e-11);

  const auto numeric = autograd::gradcheck(c.op, c.inputs, wanted, c.gradcheck_step);
  CAPTURE(numeric.where);
  CHECK(numeric.error <= 1e-6);

  compare("twice", differentiate(c.op, c.inputs, wanted, 2), op, 1e-11, 2);

  std::vector<Tensor> f32 = c.inputs;
  for (Tensor& t : f32)
    if (t.defined() && t.dtype() == Dtype::f64) t = t.to(Dtype::f32);
  compare("f32", differentiate(c.op, f32, wanted), op,
          8 * 0x1p-24 * std::sqrt(double(c.terms)) + 1e-6);
  run_rounded(c, wanted, {}, Dtype::bf16);
  if (c.cuda && have_cuda())
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) run_rounded(c, wanted, kCuda, dtype);
}

}  // namespace sg::test
