// How exact are the functions of core/cuda/kernel.cuh?
#include "core/cuda/kernel.cuh"

#include <doctest/doctest.h>

using namespace sg;

namespace {

double cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double gelu(double x) { return x * cdf(x); }
double gelu_grad(double x) { return cdf(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI); }

// The largest |f - exact| over all x of [-16, 16] in steps of 2^-13.
template <class F>
double worst(const F& f, double (*exact)(double)) {
  double worst = 0;
  for (int i = -(16 << 13); i <= 16 << 13; ++i) {
    const double x = i / 8192.0, error = std::abs(f(float(x)) - exact(x));
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

// In steps of 2^-8 where the derivative of GELU rises: between -sqrt(2) and sqrt(2).
template <class T>
bool rises() {
  bool all = true;
  for (int i = -360; i < 360; ++i)
    all = all && cuda::gelu_grad<T>(float(i + 1) / 256) > cuda::gelu_grad<T>(float(i) / 256);
  return all;
}

template <class T>
void check_limits() {
  for (const float x : {8.0f, 100.0f, 1e4f, 1e18f, 1e30f}) {
    CAPTURE(x);
    CHECK(cuda::gelu<T>(x) == x);
    CHECK(cuda::gelu_grad<T>(x) == doctest::Approx(1).epsilon(1e-6));
    CHECK(std::abs(cuda::gelu<T>(-x)) <= 1e-7);
    CHECK(std::abs(cuda::gelu_grad<T>(-x)) <= 1e-7);
  }
  CHECK(std::isnan(cuda::gelu<T>(NAN)));
}

}  // namespace

TEST_CASE("gelu in f32") {
  CHECK(worst(cuda::gelu<float>, gelu) <= 2e-6);  // half a unit in the last place of 16
  CHECK(worst(cuda::gelu_grad<float>, gelu_grad) <= 4e-7);
  CHECK(rises<float>());
  check_limits<float>();
}

TEST_CASE("gelu for bf16") {
  CHECK(worst(cuda::gelu<bf16>, gelu) <= 3.2e-5);
  CHECK(worst(cuda::gelu_grad<bf16>, gelu_grad) <= 1.5e-4);  // 2^-11 is 4.9e-4
  CHECK(rises<bf16>());
  check_limits<bf16>();
}
