// Boxes come in blocks. Neighbours in a list of anchors are neighbours in the image, so that most
// objects lie outside of all boxes of a block.
#include "sgformer/detect/assigner.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sgformer/detect/assigner.cpp"
#include <hwy/foreach_target.h>

#include <cstring>

#include "core/cpu/simd-inl.h"

#ifndef SG_SGFORMER_DETECT_ASSIGNER
#define SG_SGFORMER_DETECT_ASSIGNER
namespace sg::sgformer {
namespace {

// The largest IoU with an object, and the boxes that have it; none where it is 0.
template <class T>
struct Best {
  T iou = 0;
  std::vector<int32_t> boxes;

  void offer(T other, int32_t box) {
    if (other > iou) {
      iou = other;
      boxes.clear();
    }
    if (other > 0 && other == iou) boxes.push_back(box);
  }
};

constexpr size_t kBlock = 64;

}  // namespace
}  // namespace sg::sgformer
#endif

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

using sgformer::AssignerSettings, sgformer::Assignment;
using sgformer::Box, sgformer::Best, sgformer::kBlock;

// Boxes, a column a corner.
template <class T>
struct Block {
  alignas(64) T x1[kBlock], y1[kBlock], x2[kBlock], y2[kBlock];
  alignas(64) T iou[kBlock], object[kBlock];  // the best one, and whose it is
  Box<T> around;

  explicit Block(const Box<T>* boxes) {
    const hn::ScalableTag<T> d;
    auto low_x = hn::Set(d, boxes->x1), low_y = hn::Set(d, boxes->y1);
    auto high_x = hn::Set(d, boxes->x2), high_y = hn::Set(d, boxes->y2);
    for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
      hn::Vec<decltype(d)> a, b, c, e;
      hn::LoadInterleaved4(d, &boxes[i].x1, a, b, c, e);
      hn::Store(a, d, x1 + i), hn::Store(b, d, y1 + i);
      hn::Store(c, d, x2 + i), hn::Store(e, d, y2 + i);
      hn::Store(hn::Zero(d), d, iou + i), hn::Store(hn::Zero(d), d, object + i);
      low_x = hn::Min(low_x, a), low_y = hn::Min(low_y, b);
      high_x = hn::Max(high_x, c), high_y = hn::Max(high_y, e);
    }
    around = {hn::GetLane(hn::MinOfLanes(d, low_x)), hn::GetLane(hn::MinOfLanes(d, low_y)),
              hn::GetLane(hn::MaxOfLanes(d, high_x)), hn::GetLane(hn::MaxOfLanes(d, high_y))};
  }

  // Box i is number first + i, the object number k.
  void compare(int32_t first, const Box<T>& other, T k, Best<T>& best) {
    const hn::ScalableTag<T> d;
    const auto zero = hn::Zero(d), number = hn::Set(d, k);
    const auto gx1 = hn::Set(d, other.x1), gy1 = hn::Set(d, other.y1);
    const auto gx2 = hn::Set(d, other.x2), gy2 = hn::Set(d, other.y2);
    const auto area = hn::Set(d, other.area()), least = hn::Set(d, T(sgformer::kMinUnion));
    for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
      // As iou() in box.h, to the bit.
      const auto a = hn::Load(d, x1 + i), b = hn::Load(d, y1 + i);
      const auto c = hn::Load(d, x2 + i), e = hn::Load(d, y2 + i);
      const auto width = hn::Max(hn::Sub(hn::Min(c, gx2), hn::Max(a, gx1)), zero);
      const auto height = hn::Max(hn::Sub(hn::Min(e, gy2), hn::Max(b, gy1)), zero);
      const auto overlap = hn::Mul(width, height);
      const auto own = hn::Mul(hn::Sub(c, a), hn::Sub(e, b));
      const auto found = hn::Div(overlap, hn::Max(hn::Sub(hn::Add(own, area), overlap), least));

      const auto before = hn::Load(d, iou + i);
      const auto more = hn::Gt(found, before);
      hn::Store(hn::IfThenElse(more, found, before), d, iou + i);
      hn::Store(hn::IfThenElse(more, number, hn::Load(d, object + i)), d, object + i);
      if (!hn::AllFalse(d, hn::And(hn::Ge(found, hn::Set(d, best.iou)), hn::Gt(found, zero)))) {
        HWY_ALIGN T lanes[hn::MaxLanes(d)];
        hn::Store(found, d, lanes);
        for (size_t j = 0; j < hn::Lanes(d); ++j) best.offer(lanes[j], first + int32_t(i + j));
      }
    }
  }

  // -1, 0 or the number of the object + 1.
  void decide(T positive, T negative, int32_t* assigned) const {
    const hn::ScalableTag<T> d;
    const hn::Rebind<int32_t, decltype(d)> whole;
    const auto one = hn::Set(d, T(1));
    for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
      const auto most = hn::Load(d, iou + i);
      const auto found = hn::IfThenElse(hn::Ge(most, hn::Set(d, positive)),
                                        hn::Add(hn::Load(d, object + i), one), hn::Neg(one));
      const auto result = hn::IfThenZeroElse(hn::Lt(most, hn::Set(d, negative)), found);
      if constexpr (sizeof(T) == 4)
        hn::StoreU(hn::ConvertTo(whole, result), whole, assigned + i);
      else
        hn::StoreU(hn::DemoteTo(whole, result), whole, assigned + i);
    }
  }
};

// Numbers of the objects that overlap a box, ascending.
template <class T>
class Overlaps {
 public:
  explicit Overlaps(std::span<const Box<T>> objects) : n_(objects.size()) {
    for (std::vector<T>* v : {&x1_, &y1_, &x2_, &y2_, &found_}) v->resize(n_ + 64 / sizeof(T));
    for (size_t k = 0; k < n_; ++k)
      x1_[k] = objects[k].x1, y1_[k] = objects[k].y1, x2_[k] = objects[k].x2,
      y2_[k] = objects[k].y2;
  }
  std::span<const T> of(const Box<T>& box) {
    const hn::ScalableTag<T> d;
    size_t count = 0;
    for (size_t k = 0; k < n_; k += hn::Lanes(d)) {
      const auto x = hn::And(hn::Lt(hn::LoadU(d, &x1_[k]), hn::Set(d, box.x2)),
                             hn::Gt(hn::LoadU(d, &x2_[k]), hn::Set(d, box.x1)));
      const auto y = hn::And(hn::Lt(hn::LoadU(d, &y1_[k]), hn::Set(d, box.y2)),
                             hn::Gt(hn::LoadU(d, &y2_[k]), hn::Set(d, box.y1)));
      const auto both = hn::And(hn::And(x, y), hn::FirstN(d, n_ - k));
      count += hn::CompressStore(hn::Iota(d, T(k)), both, d, &found_[count]);
    }
    return {found_.data(), count};
  }

 private:
  size_t n_;
  std::vector<T> x1_, y1_, x2_, y2_, found_;  // with room behind them for one vector
};

template <class T>
void assign(std::span<const Box<T>> boxes, std::span<const Box<T>> objects,
            const AssignerSettings& settings, std::span<const uint8_t> valid,
            std::span<Best<T>> best, Assignment<T>& result) {
  Overlaps<T> overlaps(objects);
  for (size_t first = 0; first < boxes.size(); first += kBlock) {
    const size_t n = std::min(kBlock, boxes.size() - first);
    const uint8_t* const counts = valid.empty() ? nullptr : &valid[first];
    const bool whole = n == kBlock && !(counts && std::memchr(counts, 0, n));
    // Boxes that are missing or not valid are empty and overlap nothing.
    Box<T> some[kBlock] = {};
    for (size_t i = 0; !whole && i < n; ++i)
      if (!counts || counts[i]) some[i] = boxes[first + i];
    Block<T> block(whole ? &boxes[first] : some);
    for (const T k : overlaps.of(block.around))
      block.compare(int32_t(first), objects[size_t(k)], k, best[size_t(k)]);
    std::copy_n(block.iou, n, &result.max_iou[first]);
    int32_t assigned[kBlock] = {};
    if (!objects.empty()) block.decide(T(settings.positive), T(settings.negative), assigned);
    for (size_t i = 0; !whole && i < n; ++i)
      if (counts && !counts[i]) assigned[i] = -1;
    std::copy_n(assigned, n, &result.assigned[first]);
  }
}
void assign_f32(std::span<const Box<float>> boxes, std::span<const Box<float>> objects,
                const AssignerSettings& settings, std::span<const uint8_t> valid,
                std::span<Best<float>> best, Assignment<float>& result) {
  assign(boxes, objects, settings, valid, best, result);
}
void assign_f64(std::span<const Box<double>> boxes, std::span<const Box<double>> objects,
                const AssignerSettings& settings, std::span<const uint8_t> valid,
                std::span<Best<double>> best, Assignment<double>& result) {
  assign(boxes, objects, settings, valid, best, result);
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
HWY_EXPORT(assign_f32);
HWY_EXPORT(assign_f64);

namespace sgformer {

template <class T>
Assignment<T> assign(std::span<const Box<T>> boxes, std::span<const Box<T>> objects,
                     const AssignerSettings& settings, std::span<const uint8_t> valid) {
  check(valid.empty() || valid.size() == boxes.size(), "assign: {} boxes, {} bytes of valid",
        boxes.size(), valid.size());
  Assignment<T> result{std::vector<int32_t>(boxes.size()), std::vector<T>(boxes.size())};
  std::vector<Best<T>> best(objects.size());
  if constexpr (std::is_same_v<T, float>)
    HWY_DYNAMIC_DISPATCH(assign_f32)(boxes, objects, settings, valid, best, result);
  else
    HWY_DYNAMIC_DISPATCH(assign_f64)(boxes, objects, settings, valid, best, result);
  if (!settings.low_quality) return result;
  for (size_t k = 0; k < objects.size(); ++k) {
    const int32_t object = int32_t(k) + 1;
    if (best[k].iou < T(settings.min_positive)) continue;
    for (const int32_t i : best[k].boxes) result.assigned[size_t(i)] = object;
    // An object that no box overlaps ties with all of them.
    if (best[k].iou == 0)
      for (size_t i = 0; i < boxes.size(); ++i)
        if (valid.empty() || valid[i]) result.assigned[i] = object;
  }
  return result;
}

template Assignment<float> assign(std::span<const Box<float>>, std::span<const Box<float>>,
                                  const AssignerSettings&, std::span<const uint8_t>);
template Assignment<double> assign(std::span<const Box<double>>, std::span<const Box<double>>,
                                   const AssignerSettings&, std::span<const uint8_t>);

}  // namespace sgformer
}  // namespace sg
#endif
