// Functions of x >= 0 in segments, for results of few digits: three coefficients that one
// permutation each takes out of registers cost less than a long polynomial, and each segment is as
// exact for its values as it needs to be, however small they are.
#pragma once
#include <cmath>

namespace sg {

// Segment i is around i * kStep, the last one constant. In segment i: (c[2][i] x + c[1][i]) x +
// c[0][i], which interpolates f at the three Chebyshev nodes.
struct PiecewiseQuadratic {
  static constexpr int kSegments = 32;
  static constexpr double kStep = 0.15, kLast = (kSegments - 1) * kStep;
  alignas(64) float c[3][kSegments] = {};

  template <class F>
  PiecewiseQuadratic(const F& f, float last) {
    const double to_node = kStep / 2 * std::sqrt(0.75);
    for (int i = 0; i + 1 < kSegments; ++i) {
      const double x = i * kStep, middle = f(x), left = f(x - to_node), right = f(x + to_node);
      const double slope = (right - left) / (2 * to_node);
      const double curve = ((right + left) / 2 - middle) / (to_node * to_node);
      c[2][i] = float(curve);
      c[1][i] = float(slope - 2 * curve * x);
      c[0][i] = float(middle - slope * x + curve * x * x);
    }
    c[0][kSegments - 1] = last;
  }
};

// Errors: 1.4e-5 and 5.2e-5; below 2^-9 of the value in the tail of GELU, as far as the last
// segment.
inline const PiecewiseQuadratic kReluMinusGelu(
    [](double x) { return x * 0.5 * std::erfc(x * 0.70710678118654752440); }, 0);
inline const PiecewiseQuadratic kGeluGradMinusHalf(
    [](double x) {
      const double density = 0.39894228040143267794 * std::exp(-0.5 * x * x);
      return 0.5 - 0.5 * std::erfc(x * 0.70710678118654752440) + x * density;
    },
    0.5f);

}  // namespace sg
