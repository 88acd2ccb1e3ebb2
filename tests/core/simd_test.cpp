// Accuracy of the vector functions, and conversions between storage and arithmetic, in every
// instruction set that this machine runs.
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

// For results of type S, here unrounded.
template <class S, class T>
void evaluate(Function f, const T* x, T* y, int64_t n) {
  for_lanes<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i);
    hn::StoreU(f == Function::cdf         ? normal_cdf<T>(d, v)
               : f == Function::gelu      ? gelu<S>(d, v)
               : f == Function::gelu_grad ? gelu_grad<S>(d, v)
                                          : exp(d, v),
               d, y + i);
  });
}
void evaluate_f32(int f, const float* x, float* y, int64_t n) {
  evaluate<float>(Function(f), x, y, n);
}
void evaluate_f64(int f, const double* x, double* y, int64_t n) {
  evaluate<double>(Function(f), x, y, n);
}
void evaluate_bf16(int f, const float* x, float* y, int64_t n) {
  evaluate<bf16>(Function(f), x, y, n);
}

// Min and Max of the scalar target, which no x86-64 CPU is given, drop NaN.
bool keeps_nan() { return HWY_TARGET != HWY_SCALAR; }

// In whole vectors and a rest of single lanes, as kernels do.
template <class T, class S, class D>
void copy(const S* x, D* y, int64_t n) {
  for_lanes<T>(n, [&](auto d, int64_t i) HWY_ATTR { store(load(d, x + i), d, y + i); });
}
void widen(const bf16* x, float* y, int64_t n) { copy<float>(x, y, n); }
void narrow(const float* x, bf16* y, int64_t n) { copy<float>(x, y, n); }
void widen_to_f64(const float* x, double* y, int64_t n) { copy<double>(x, y, n); }

// The same in several vectors at once: next to each other, and a column of `rows` of n elements.
void narrow_pairs(const float* x, bf16* y, int64_t n) {
  store_lanes<float>(n, y, [&](auto d, int64_t i) HWY_ATTR { return load(d, x + i); });
}
template <int kRows>
void narrow_rows(const float* x, bf16* y, int64_t n) {
  for_lanes<float>(n, [&](auto d, int64_t i) HWY_ATTR {
    hn::Vec<decltype(d)> v[kRows];
    for (int64_t r = 0; r < kRows; ++r) v[r] = load(d, x + r * n + i);
    store(v, d, y + i, n);
  });
}
void narrow_2_rows(const float* x, bf16* y, int64_t n) { narrow_rows<2>(x, y, n); }
void narrow_7_rows(const float* x, bf16* y, int64_t n) { narrow_rows<7>(x, y, n); }

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <vector>

namespace sg {
namespace {
HWY_EXPORT(evaluate_f32);
HWY_EXPORT(evaluate_f64);
HWY_EXPORT(evaluate_bf16);
HWY_EXPORT(keeps_nan);
HWY_EXPORT(widen);
HWY_EXPORT(narrow);
HWY_EXPORT(narrow_pairs);
HWY_EXPORT(narrow_2_rows);
HWY_EXPORT(narrow_7_rows);
HWY_EXPORT(widen_to_f64);

// f(x) as for results of type S.
template <class S>
std::vector<AccType<S>> run(int f, const std::vector<AccType<S>>& x) {
  std::vector<AccType<S>> y(x.size());
  const int64_t n = int64_t(x.size());
  if constexpr (std::is_same_v<S, bf16>)
    HWY_DYNAMIC_DISPATCH(evaluate_bf16)(f, x.data(), y.data(), n);
  else if constexpr (std::is_same_v<S, float>)
    HWY_DYNAMIC_DISPATCH(evaluate_f32)(f, x.data(), y.data(), n);
  else
    HWY_DYNAMIC_DISPATCH(evaluate_f64)(f, x.data(), y.data(), n);
  return y;
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
  double bf16;  // absolute
};
const Case kCases[] = {
    // in the order of Function
    {cdf, 30, 4e-7, 1e-15, Scale::one, 0},
    {gelu, 30, 4e-7, 1e-15, Scale::x, 1.4e-5},
    {gelu_grad, 30, 4e-7, 1e-15, Scale::one, 5.3e-5},
    {exponential, 80, 2e-7, 1e-15, Scale::value, 0},
};

template <class S>
void check_accuracy(int f, double bound) {
  using T = AccType<S>;
  const Case& c = kCases[f];
  const int64_t n = 1 << 20;
  std::vector<T> x(n + 1);
  for (int64_t i = 0; i <= n; ++i) x[size_t(i)] = T(c.limit * (2 * double(i) / n - 1));
  const std::vector<T> y = run<S>(f, x);
  double worst = 0, where = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = c.expected(double(x[i]));
    const double scale = std::is_same_v<S, bf16>   ? 1.0
                         : c.scale == Scale::value ? v
                         : c.scale == Scale::x     ? std::max(1.0, std::abs(double(x[i])))
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

uint32_t bits_of(float v) { return std::bit_cast<uint32_t>(v); }

// narrow() of x against bf16(float), in vectors of every length that ends in a rest or in none.
// Whatever lies behind the range is left alone.
void check_narrow(const std::vector<float>& x) {
  each_target([&] {
    for (const size_t n : {x.size(), x.size() - 1, size_t{1}, size_t{0}}) {
      constexpr uint16_t kMark = 0x1234;
      std::vector<bf16> y(n + 1);
      y[n].bits = kMark;
      HWY_DYNAMIC_DISPATCH(narrow)(x.data(), y.data(), int64_t(n));
      size_t wrong = 0;
      for (size_t i = 0; i < n; ++i) wrong += y[i].bits != bf16(x[i]).bits;
      CAPTURE(n);
      CHECK(wrong == 0);
      CHECK(y[n].bits == kMark);
      std::fill(y.begin(), y.end() - 1, bf16(0.0f));
      HWY_DYNAMIC_DISPATCH(narrow_pairs)(x.data(), y.data(), int64_t(n));
      for (size_t i = 0; i < n; ++i) wrong += y[i].bits != bf16(x[i]).bits;
      CHECK(wrong == 0);
      CHECK(y[n].bits == kMark);
    }
    for (const size_t rows : {2, 7}) {
      const size_t n = x.size() / rows;
      std::vector<bf16> y(n * rows);
      if (rows == 2)
        HWY_DYNAMIC_DISPATCH(narrow_2_rows)(x.data(), y.data(), int64_t(n));
      else
        HWY_DYNAMIC_DISPATCH(narrow_7_rows)(x.data(), y.data(), int64_t(n));
      size_t wrong = 0;
      for (size_t i = 0; i < y.size(); ++i) wrong += y[i].bits != bf16(x[i]).bits;
      CAPTURE(rows);
      CHECK(wrong == 0);
    }
  });
}

TEST_CASE(
    "bf16 is widened and narrowed to the bits of its scalar conversions, all 65,536 of them") {
  std::vector<bf16> all(1 << 16);
  for (size_t i = 0; i < all.size(); ++i) all[i].bits = uint16_t(i);
  std::vector<float> wide(all.size());
  each_target([&] {
    std::fill(wide.begin(), wide.end(), 1.0f);
    HWY_DYNAMIC_DISPATCH(widen)(all.data(), wide.data(), int64_t(all.size()) - 1);
    size_t wrong = 0;
    for (size_t i = 0; i + 1 < all.size(); ++i) wrong += bits_of(wide[i]) != bits_of(float(all[i]));
    CHECK(wrong == 0);
    CHECK(wide.back() == 1.0f);  // behind the range
  });
  for (size_t i = 0; i < all.size(); ++i) wide[i] = float(all[i]);
  check_narrow(wide);
}

TEST_CASE("narrowing to bf16 rounds ties to even, keeps NaN, infinities and denormals") {
  // Between each value and the next: just below, at, and just above the middle, and the ends. That
  // has the ties, the overflow of the largest value to infinity, denormals, and every NaN's low
  // bits.
  std::vector<float> x;
  for (uint32_t upper = 0; upper < 1 << 16; ++upper)
    for (const uint32_t lower : {0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      x.push_back(std::bit_cast<float>(upper << 16 | lower));
  check_narrow(x);

  const std::vector<std::pair<float, uint16_t>> known{
      {1.00390625f, 0x3f80},                        // a tie, down to even
      {1.01171875f, 0x3f82},                        // a tie, up to even
      {3.4e38f, 0x7f80},                            // above the largest bf16
      {-HUGE_VALF, 0xff80},                         // infinity
      {std::bit_cast<float>(0x00018000u), 0x0002},  // denormal, a tie
      {std::bit_cast<float>(0x7f800001u), 0x7fc0},  // a NaN whose upper bits are infinity's
      {std::bit_cast<float>(0xffffffffu), 0xffff},  // a NaN that an addition would carry over
  };
  std::vector<float> from;
  for (const auto& [value, bits] : known) from.push_back(value);
  std::vector<bf16> to(from.size());
  each_target([&] {
    HWY_DYNAMIC_DISPATCH(narrow)(from.data(), to.data(), int64_t(from.size()));
    for (size_t i = 0; i < known.size(); ++i) CHECK(to[i].bits == known[i].second);
  });
}

TEST_CASE("float is widened to double exactly") {
  std::vector<float> x;
  for (int i = 0; i < 37; ++i) x.push_back(std::ldexp(1.0f / 3, 9 * (i - 17)));
  std::vector<double> y(x.size() + 1, -1);
  each_target([&] {
    HWY_DYNAMIC_DISPATCH(widen_to_f64)(x.data(), y.data(), int64_t(x.size()));
    for (size_t i = 0; i < x.size(); ++i) CHECK(y[i] == double(x[i]));
    CHECK(y.back() == -1);
  });
}

TEST_CASE("accuracy over a dense grid") {
  each_target([] {
    for (int f = 0; f < 4; ++f) {
      check_accuracy<float>(f, kCases[f].f32);
      check_accuracy<double>(f, kCases[f].f64);
      if (kCases[f].bf16 > 0) check_accuracy<bf16>(f, kCases[f].bf16);
    }
  });
}

TEST_CASE("gelu for bf16 keeps the digits of small values") {
  std::vector<float> x;
  for (int i = 1; i <= 1 << 16; ++i)  // to where the tail ends, and 1e-6 near 0
    x.push_back(-4.57f * float(i) / (1 << 16)), x.push_back(std::ldexp(x.back(), -20));
  each_target([&] {
    const std::vector<float> y = run<bf16>(int(Function::gelu), x);
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = gelu(double(x[i]));
      worst = std::max(worst, std::abs(double(y[i]) / expected - 1));
    }
    CHECK(worst <= 0x1p-9);  // half a unit in the last place of the smallest bf16 of an exponent
  });
}

template <class S>
void check_limits() {
  const std::vector<float> x{-1e30f, -100, -6, 6, 100, 1e30f, NAN};
  const std::vector<float> cdf = run<S>(int(Function::cdf), x),
                           gelu = run<S>(int(Function::gelu), x),
                           grad = run<S>(int(Function::gelu_grad), x);
  for (size_t i = 0; i < 6; ++i) {
    CHECK(cdf[i] == float(x[i] > 0));
    CHECK(gelu[i] == std::max(x[i], 0.0f));
    CHECK(grad[i] == float(x[i] > 0));
  }
  if (!HWY_DYNAMIC_DISPATCH(keeps_nan)()) return;
  CHECK(std::isnan(gelu[6]));
  CHECK(std::isnan(grad[6]));
}

TEST_CASE("large arguments saturate exactly, NaN is kept") {
  each_target([] {
    check_limits<float>();
    check_limits<bf16>();
  });
}

}  // namespace
}  // namespace sg
#endif
