// Boxes relative to proposals or anchors, as the heads of a detector give them.
#pragma once
#include <array>
#include <cmath>

#include "sgformer/detect/box.h"

namespace sg::sgformer {

template <class T>
struct BoxDelta {
  T dx, dy, dw, dh;
  bool operator==(const BoxDelta&) const = default;
};

// A tensor of T on the CPU, four numbers a delta; it must outlive them.
template <class T>
std::span<const BoxDelta<T>> deltas_of(const Tensor& t) {
  check(t.numel() % 4 == 0, "deltas: expected 4 numbers each, found shape {}", t.shape().str());
  return {reinterpret_cast<const BoxDelta<T>*>(t.data<T>()), size_t(t.numel() / 4)};
}

// Shift of the centre in widths and heights of the proposal, logarithm of the growth of the sides;
// each less its mean, divided by its deviation (`means`, `stds`: dx, dy, dw, dh).
struct BoxCoder {
  std::array<double, 4> means{}, stds{1, 1, 1, 1};

  // Decoded sides are at most 1000 / 16 times as long, or short.
  static constexpr double kMostGrowth = 4.135166556742356;  // log(1000 / 16)

  // Both boxes have an area.
  template <class T>
  BoxDelta<T> encode(const Box<T>& proposal, const Box<T>& target) const {
    const auto normalized = [&](size_t i, T v) { return (v - T(means[i])) / T(stds[i]); };
    const auto centre = [](T low, T high) { return (low + high) / 2; };
    const T w = proposal.width(), h = proposal.height();
    return {normalized(0, (centre(target.x1, target.x2) - centre(proposal.x1, proposal.x2)) / w),
            normalized(1, (centre(target.y1, target.y2) - centre(proposal.y1, proposal.y2)) / h),
            normalized(2, std::log(target.width() / w)),
            normalized(3, std::log(target.height() / h))};
  }

  template <class T>
  Box<T> decode(const Box<T>& proposal, const BoxDelta<T>& delta) const {
    const auto value = [&](size_t i, T v) { return v * T(stds[i]) + T(means[i]); };
    const auto grown = [&](T side, T log_growth) {
      return side * std::exp(std::clamp(log_growth, T(-kMostGrowth), T(kMostGrowth)));
    };
    const T w = proposal.width(), h = proposal.height();
    const T x = (proposal.x1 + proposal.x2) / 2 + w * value(0, delta.dx);
    const T y = (proposal.y1 + proposal.y2) / 2 + h * value(1, delta.dy);
    const T half_w = grown(w, value(2, delta.dw)) / 2, half_h = grown(h, value(3, delta.dh)) / 2;
    return {x - half_w, y - half_h, x + half_w, y + half_h};
  }
};

}  // namespace sg::sgformer
