#include "sgformer/detect/scores.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sgformer/detect/scores.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

template <class T>
void sigmoid(const T* z, T* scores, int64_t n) {
  for_lanes<T>(n, [&](auto d, int64_t i) SG_INLINE_ATTR {
    const auto one = hn::Set(d, T(1)), v = hn::LoadU(d, z + i);
    const auto e = exp(d, hn::Neg(hn::Abs(v)));  // does not overflow
    hn::StoreU(hn::Div(hn::IfThenElse(hn::Ge(v, hn::Zero(d)), one, e), hn::Add(one, e)), d,
               scores + i);
  });
}
void sigmoid_f32(const float* z, float* scores, int64_t n) { sigmoid(z, scores, n); }
void sigmoid_f64(const double* z, double* scores, int64_t n) { sigmoid(z, scores, n); }

template <class T>
void softmax(const T* z, T* scores, int64_t rows, int64_t classes) {
  for (const T* const end = z + rows * classes; z < end; z += classes, scores += classes) {
    T top = z[0], sum = 0;
    for (int64_t k = 1; k < classes; ++k) top = std::max(top, z[k]);
    for_lanes<T>(classes, [&](auto d, int64_t k) SG_INLINE_ATTR {
      hn::StoreU(exp(d, hn::Sub(hn::LoadU(d, z + k), hn::Set(d, top))), d, scores + k);
    });
    for (int64_t k = 0; k < classes; ++k) sum += scores[k];
    for_lanes<T>(classes, [&](auto d, int64_t k) SG_INLINE_ATTR {
      hn::StoreU(hn::Div(hn::LoadU(d, scores + k), hn::Set(d, sum)), d, scores + k);
    });
  }
}
void softmax_f32(const float* z, float* scores, int64_t rows, int64_t classes) {
  softmax(z, scores, rows, classes);
}
void softmax_f64(const double* z, double* scores, int64_t rows, int64_t classes) {
  softmax(z, scores, rows, classes);
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <bit>

#include "core/error.h"

namespace sg {
HWY_EXPORT(sigmoid_f32);
HWY_EXPORT(sigmoid_f64);
HWY_EXPORT(softmax_f32);
HWY_EXPORT(softmax_f64);

namespace sgformer {
namespace {

// The smaller, the higher the score; then the index. In one number, so that sorting compares once.
template <class T>
auto rank_of(T score, size_t index) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  using Rank = std::conditional_t<sizeof(T) == 4, uint64_t, unsigned __int128>;
  constexpr Bits sign = Bits(1) << (sizeof(T) * 8 - 1);
  const Bits bits = std::bit_cast<Bits>(score + T(0));  // -0 becomes 0
  const Bits descending = score != score ? Bits(-1) : bits & sign ? bits : Bits(~bits & ~sign);
  return Rank(descending) << 32 | Rank(index);
}

}  // namespace

template <class T>
void sigmoid(std::span<const T> logits, std::span<T> scores) {
  check(logits.size() == scores.size(), "sigmoid: {} logits and {} scores", logits.size(),
        scores.size());
  if constexpr (std::is_same_v<T, float>)
    HWY_DYNAMIC_DISPATCH(sigmoid_f32)(logits.data(), scores.data(), int64_t(scores.size()));
  else
    HWY_DYNAMIC_DISPATCH(sigmoid_f64)(logits.data(), scores.data(), int64_t(scores.size()));
}

template <class T>
void softmax(std::span<const T> logits, int64_t classes, std::span<T> scores) {
  check(classes > 0 && logits.size() == scores.size() && logits.size() % size_t(classes) == 0,
        "softmax: {} logits of {} classes and {} scores", logits.size(), classes, scores.size());
  const int64_t rows = int64_t(logits.size()) / classes;
  if constexpr (std::is_same_v<T, float>)
    HWY_DYNAMIC_DISPATCH(softmax_f32)(logits.data(), scores.data(), rows, classes);
  else
    HWY_DYNAMIC_DISPATCH(softmax_f64)(logits.data(), scores.data(), rows, classes);
}

template <class T>
std::vector<int32_t> top_scores(std::span<const T> scores, size_t most) {
  std::vector<decltype(rank_of(T(), 0))> ranks(scores.size());
  for (size_t i = 0; i < ranks.size(); ++i) ranks[i] = rank_of(scores[i], i);
  if (most < ranks.size()) {
    std::nth_element(ranks.begin(), ranks.begin() + int64_t(most), ranks.end());
    ranks.resize(most);
  }
  std::sort(ranks.begin(), ranks.end());
  std::vector<int32_t> indices(ranks.size());
  for (size_t i = 0; i < indices.size(); ++i) indices[i] = int32_t(uint32_t(ranks[i]));
  return indices;
}

template void sigmoid(std::span<const float>, std::span<float>);
template void sigmoid(std::span<const double>, std::span<double>);
template void softmax(std::span<const float>, int64_t, std::span<float>);
template void softmax(std::span<const double>, int64_t, std::span<double>);
template std::vector<int32_t> top_scores(std::span<const float>, size_t);
template std::vector<int32_t> top_scores(std::span<const double>, size_t);

}  // namespace sgformer
}  // namespace sg
#endif
