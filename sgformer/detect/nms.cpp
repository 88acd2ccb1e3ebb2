// Each box is compared with all that were taken of its group, a vector of them at a time.
#include "sgformer/detect/nms.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sgformer/detect/nms.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/simd-inl.h"

#ifndef SG_SGFORMER_DETECT_NMS
#define SG_SGFORMER_DETECT_NMS
namespace sg::sgformer {
namespace {

// Boxes that were taken, of all groups, with room behind them for one vector.
template <class T>
struct Taken {
  static constexpr size_t kRoom = 64 / sizeof(T);
  std::vector<T> x1, y1, x2, y2, area;

  explicit Taken(size_t n) {
    for (std::vector<T>* v : {&x1, &y1, &x2, &y2, &area}) v->resize(n + kRoom);
  }
  void set(size_t i, const Box<T>& box) {
    x1[i] = box.x1, y1[i] = box.y1, x2[i] = box.x2, y2[i] = box.y2, area[i] = box.area();
  }
};

}  // namespace
}  // namespace sg::sgformer
#endif

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

using sgformer::Box, sgformer::Taken;

// Does one of taken[begin, end) suppress the box?
template <class T>
bool suppressed(const Taken<T>& taken, size_t begin, size_t end, const Box<T>& box, T threshold) {
  const hn::ScalableTag<T> d;
  const auto zero = hn::Zero(d), t = hn::Set(d, threshold), area = hn::Set(d, box.area());
  const auto x1 = hn::Set(d, box.x1), y1 = hn::Set(d, box.y1);
  const auto x2 = hn::Set(d, box.x2), y2 = hn::Set(d, box.y2);
  const auto overlap = [&](size_t i) SG_INLINE_ATTR {
    const auto width =
        hn::Sub(hn::Min(x2, hn::LoadU(d, &taken.x2[i])), hn::Max(x1, hn::LoadU(d, &taken.x1[i])));
    const auto height =
        hn::Sub(hn::Min(y2, hn::LoadU(d, &taken.y2[i])), hn::Max(y1, hn::LoadU(d, &taken.y1[i])));
    const auto inter = hn::Mul(hn::Max(width, zero), hn::Max(height, zero));
    const auto both = hn::Sub(hn::Add(hn::LoadU(d, &taken.area[i]), area), inter);
    return hn::Gt(inter, hn::Mul(t, both));
  };
  const size_t lanes = hn::Lanes(d);
  size_t i = begin;
  for (; i + 2 * lanes <= end; i += 2 * lanes)
    if (!hn::AllFalse(d, hn::Or(overlap(i), overlap(i + lanes)))) return true;
  for (; i < end; i += lanes)
    if (!hn::AllFalse(d, hn::And(hn::FirstN(d, end - i), overlap(i)))) return true;
  return false;
}
bool suppressed_f32(const Taken<float>& taken, size_t begin, size_t end, const Box<float>& box,
                    float threshold) {
  return suppressed(taken, begin, end, box, threshold);
}
bool suppressed_f64(const Taken<double>& taken, size_t begin, size_t end, const Box<double>& box,
                    double threshold) {
  return suppressed(taken, begin, end, box, threshold);
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "sgformer/detect/scores.h"

namespace sg {
HWY_EXPORT(suppressed_f32);
HWY_EXPORT(suppressed_f64);

namespace sgformer {

template <class T>
std::vector<int32_t> nms(std::span<const Box<T>> boxes, std::span<const T> scores,
                         std::span<const int32_t> groups, double iou_threshold, size_t most) {
  const size_t n = boxes.size();
  check(scores.size() == n && (groups.empty() || groups.size() == n),
        "nms: {} boxes, {} scores and {} groups", n, scores.size(), groups.size());
  // Where the boxes of each group begin that are taken: as far apart as the group has boxes.
  std::vector<size_t> begin(1, 0);
  for (const int32_t g : groups) {
    check(g >= 0 && g < kMostGroups, "nms: groups: expected numbers from 0 to {}, found {}",
          kMostGroups - 1, g);
    if (size_t(g) + 1 >= begin.size()) begin.resize(size_t(g) + 2, 0);
    ++begin[size_t(g) + 1];
  }
  for (size_t g = 1; g < begin.size(); ++g) begin[g] += begin[g - 1];
  std::vector<size_t> end = begin;

  Taken<T> taken(n);
  std::vector<int32_t> keep;
  for (const int32_t i : top_scores(scores, n)) {
    if (keep.size() >= most) break;
    const Box<T>& box = boxes[size_t(i)];
    const size_t g = groups.empty() ? 0 : size_t(groups[size_t(i)]);
    const bool drop = [&] {
      if constexpr (std::is_same_v<T, float>)
        return HWY_DYNAMIC_DISPATCH(suppressed_f32)(taken, begin[g], end[g], box,
                                                    float(iou_threshold));
      else
        return HWY_DYNAMIC_DISPATCH(suppressed_f64)(taken, begin[g], end[g], box, iou_threshold);
    }();
    if (drop) continue;
    taken.set(end[g]++, box);
    keep.push_back(i);
  }
  return keep;
}

template std::vector<int32_t> nms(std::span<const Box<float>>, std::span<const float>,
                                  std::span<const int32_t>, double, size_t);
template std::vector<int32_t> nms(std::span<const Box<double>>, std::span<const double>,
                                  std::span<const int32_t>, double, size_t);

}  // namespace sgformer
}  // namespace sg
#endif
