// Accuracy of the vector functions in every instruction set that this machine runs.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/core/simd_test.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/simd-inl.h"

#ifndef SG_TESTS_CORE_SIMD_TEST
#define SG_TESTS_CORE_SIMD_TEST
namespace sg {
enum class Function { cdf, gelu, gelu_grad, exp };
}
#endif

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

template <class T>
void evaluate(Function f, const T* x, T* y, int64_t n) {
  for_lanes<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i);
    hn::StoreU(f == Function::cdf         ? normal_cdf(d, v)
               : f == Function::gelu      ? gelu(d, v)
               : f == Function::gelu_grad ? gelu_grad(d, v)
                                          : exp(d, v),
               d, y + i);
  });
}
void evaluate_f32(int f, const float* x, float* y, int64_t n) { evaluate(Function(f), x, y, n); }
void evaluate_f64(int f, const double* x, double* y, int64_t n) { evaluate(Function(f), x, y, n); }

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

namespace sg {
namespace {
HWY_EXPORT(evaluate_f32);
HWY_EXPORT(evaluate_f64);

void run(int f, const std::vector<float>& x, std::vector<float>& y) {
  HWY_DYNAMIC_DISPATCH(evaluate_f32)(f, x.data(), y.data(), int64_t(x.size()));
}
void run(int f, const std::vector<double>& x, std::vector<double>& y) {
  HWY_DYNAMIC_DISPATCH(evaluate_f64)(f, x.data(), y.data(), int64_t(x.size()));
}

double cdf(double v) { return 0.5 * std::erfc(-v / std::sqrt(2.0)); }
double gelu(double v) { return v * cdf(v); }
double gelu_grad(double v) { return cdf(v) + v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI); }
double exponential(double v) { return std::exp(v); }

enum class Scale { one, x, value };  // what an error is compared with (x: at least 1)
struct Case {
  double (*expected)(double);
  double limit;  // the grid is [-limit, limit]
  double f32, f64;
  Scale scale;
};
const Case kCases[] = {
    // in the order of Function
    {cdf, 30, 4e-7, 1e-15, Scale::one},
    {gelu, 30, 4e-7, 1e-15, Scale::x},
    {gelu_grad, 30, 4e-7, 1e-15, Scale::one},
    {exponential, 80, 2e-7, 1e-15, Scale::value},
};

template <class T>
void check_accuracy(int f, double bound) {
  const Case& c = kCases[f];
  const int64_t n = 1 << 20;
  std::vector<T> x(n + 1), y(n + 1);
  for (int64_t i = 0; i <= n; ++i) x[size_t(i)] = T(c.limit * (2 * double(i) / n - 1));
  run(f, x, y);
  double worst = 0, where = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = c.expected(double(x[i]));
    const double scale = c.scale == Scale::value ? v
                         : c.scale == Scale::x   ? std::max(1.0, std::abs(double(x[i])))
                                                 : 1.0;
    const double error = std::abs(double(y[i]) - v) / scale;
    if (!(error <= worst)) worst = error, where = double(x[i]);
  }
  CAPTURE(f);
  CAPTURE(where);
  CHECK(worst <= bound);
}

template <class F>
void each_target(const F& f) {
  for (int64_t targets = hwy::SupportedTargets() & HWY_TARGETS; targets; targets &= targets - 1) {
    const int64_t target = targets & -targets;
    const std::string name = hwy::TargetName(target);
    CAPTURE(name);
    hwy::GetChosenTarget().Update(target);
    f();
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST_CASE("accuracy over a dense grid") {
  each_target([] {
    for (int f = 0; f < 4; ++f) {
      check_accuracy<float>(f, kCases[f].f32);
      check_accuracy<double>(f, kCases[f].f64);
    }
  });
}

TEST_CASE("large arguments saturate exactly, NaN is kept") {
  each_target([] {
    const std::vector<float> x{-1e30f, -100, -6, 6, 100, 1e30f, NAN};
    std::vector<float> cdf(x.size()), gelu(x.size()), grad(x.size());
    run(int(Function::cdf), x, cdf);
    run(int(Function::gelu), x, gelu);
    run(int(Function::gelu_grad), x, grad);
    for (size_t i = 0; i < 6; ++i) {
      CHECK(cdf[i] == float(x[i] > 0));
      CHECK(gelu[i] == std::max(x[i], 0.0f));
      CHECK(grad[i] == float(x[i] > 0));
    }
    CHECK(std::isnan(gelu[6]));
  });
}

}  // namespace
}  // namespace sg
#endif
