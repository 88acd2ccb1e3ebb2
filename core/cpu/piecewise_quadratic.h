// Functions of x >= 0 in segments, for results of few digits: three coefficients that one
// permutation each takes out of registers cost less than a long polynomial, and each segment is as
// exact for its values as it needs to be, however small they are.
#pragma once

namespace sg {

// Segment i is around i * kStep, the last one constant. In segment i: (c[2][i] x + c[1][i]) x +
// c[0][i], which interpolates f at the three Chebyshev nodes.
struct PiecewiseQuadratic {
  static constexpr int kSegments = 32;
  static constexpr double kStep = 0.15, kLast = (kSegments - 1) * kStep;
  alignas(64) float c[3][kSegments] = {};

  template <class F>
  constexpr PiecewiseQuadratic(const F& f, float last) {
    constexpr double kToNode = kStep / 2 * 0.86602540378443864676;  // cos 30 degrees
    for (int i = 0; i + 1 < kSegments; ++i) {
      const double x = i * kStep, middle = f(x), left = f(x - kToNode), right = f(x + kToNode);
      const double slope = (right - left) / (2 * kToNode);
      const double curve = ((right + left) / 2 - middle) / (kToNode * kToNode);
      c[2][i] = float(curve);
      c[1][i] = float(slope - 2 * curve * x);
      c[0][i] = float(middle - slope * x + curve * x * x);
    }
    c[0][kSegments - 1] = last;
  }
};

// Density of the normal distribution, and its integral from 0 to x: series of terms of one sign,
// exact to the last digits for |x| < 5. Constants, which loops keep in registers past any store.
constexpr double normal_density(double x) {
  double sum = 1, term = 1;
  for (int n = 1; n < 100; ++n) sum += term *= x * x / (2 * n);
  return 0.39894228040143267794 / sum;
}
constexpr double normal_integral(double x) {
  double sum = x, term = x;
  for (int n = 1; n < 100; ++n) sum += term *= x * x / (2 * n + 1);
  return normal_density(x) * sum;
}

// Errors: 1.4e-5 and 5.3e-5; below 2^-9 of the value in the tail of GELU, as far as the last
// segment.
inline constexpr PiecewiseQuadratic kReluMinusGelu(
    [](double x) { return x * (0.5 - normal_integral(x)); }, 0);
inline constexpr PiecewiseQuadratic kGeluGradMinusHalf(
    [](double x) { return normal_integral(x) + x * normal_density(x); }, 0.5f);

}  // namespace sg
