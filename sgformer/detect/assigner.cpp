// Boxes come in blocks. Neighbours in a list of anchors are neighbours in the image, so that most
// objects lie outside of all boxes of a block.
#include "sgformer/detect/assigner.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sgformer/detect/assigner.cpp"
#include <hwy/foreach_target.h>

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

// kBlock boxes, a column a corner. What is missing or not valid is empty and overlaps nothing.
constexpr int64_t kBlock = 64;
template <class T>
struct Block {
  alignas(64) T x1[kBlock], y1[kBlock], x2[kBlock], y2[kBlock];
  alignas(64) T iou[kBlock], object[kBlock];  // the best one, and whose it is
  Box<T> around;

  Block(std::span<const Box<T>> boxes, const uint8_t* valid) {
    const Box<T> none{0, 0, 0, 0};
    for (size_t i = 0; i < size_t(kBlock); ++i) {
      const Box<T>& box = i < boxes.size() && (!valid || valid[i]) ? boxes[i] : none;
      x1[i] = box.x1, y1[i] = box.y1, x2[i] = box.x2, y2[i] = box.y2;
    }
  }
};

}  // namespace
}  // namespace sg::sgformer
#endif

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

using sgformer::AssignerSettings, sgformer::Assignment;
using sgformer::Box, sgformer::Best, sgformer::Block, sgformer::kBlock;

template <class T>
void surround(Block<T>& block) {
  const hn::ScalableTag<T> d;
  auto x1 = hn::Load(d, block.x1), y1 = hn::Load(d, block.y1);
  auto x2 = hn::Load(d, block.x2), y2 = hn::Load(d, block.y2);
  for (int64_t i = int64_t(hn::Lanes(d)); i < kBlock; i += int64_t(hn::Lanes(d))) {
    x1 = hn::Min(x1, hn::Load(d, block.x1 + i)), y1 = hn::Min(y1, hn::Load(d, block.y1 + i));
    x2 = hn::Max(x2, hn::Load(d, block.x2 + i)), y2 = hn::Max(y2, hn::Load(d, block.y2 + i));
  }
  block.around = {hn::GetLane(hn::MinOfLanes(d, x1)), hn::GetLane(hn::MinOfLanes(d, y1)),
                  hn::GetLane(hn::MaxOfLanes(d, x2)), hn::GetLane(hn::MaxOfLanes(d, y2))};
}

// Box i of the block is number first + i.
template <class T>
void compare(Block<T>& block, int32_t first, const Box<T>& object, size_t k, Best<T>& best) {
  const hn::ScalableTag<T> d;
  const auto zero = hn::Zero(d), number = hn::Set(d, T(k));
  const auto gx1 = hn::Set(d, object.x1), gy1 = hn::Set(d, object.y1);
  const auto gx2 = hn::Set(d, object.x2), gy2 = hn::Set(d, object.y2);
  const auto area = hn::Set(d, object.area()), least = hn::Set(d, T(sgformer::kMinUnion));
  for (int64_t i = 0; i < kBlock; i += int64_t(hn::Lanes(d))) {
    // As iou() in box.h, to the bit.
    const auto x1 = hn::Load(d, block.x1 + i), y1 = hn::Load(d, block.y1 + i);
    const auto x2 = hn::Load(d, block.x2 + i), y2 = hn::Load(d, block.y2 + i);
    const auto width = hn::Max(hn::Sub(hn::Min(x2, gx2), hn::Max(x1, gx1)), zero);
    const auto height = hn::Max(hn::Sub(hn::Min(y2, gy2), hn::Max(y1, gy1)), zero);
    const auto overlap = hn::Mul(width, height);
    const auto own = hn::Mul(hn::Sub(x2, x1), hn::Sub(y2, y1));
    const auto both = hn::Max(hn::Sub(hn::Add(own, area), overlap), least);
    const auto iou = hn::Div(overlap, both);

    const auto before = hn::Load(d, block.iou + i);
    const auto more = hn::Gt(iou, before);
    hn::Store(hn::IfThenElse(more, iou, before), d, block.iou + i);
    hn::Store(hn::IfThenElse(more, number, hn::Load(d, block.object + i)), d, block.object + i);
    if (!hn::AllFalse(d, hn::And(hn::Ge(iou, hn::Set(d, best.iou)), hn::Gt(iou, zero)))) {
      HWY_ALIGN T lanes[hn::MaxLanes(d)];
      hn::Store(iou, d, lanes);
      for (size_t j = 0; j < hn::Lanes(d); ++j) best.offer(lanes[j], first + int32_t(i + j));
    }
  }
}

template <class T>
void assign(std::span<const Box<T>> boxes, std::span<const Box<T>> objects,
            const AssignerSettings& settings, std::span<const uint8_t> valid,
            std::span<Best<T>> best, Assignment<T>& result) {
  const T positive = T(settings.positive), negative = T(settings.negative);
  for (size_t first = 0; first < boxes.size(); first += size_t(kBlock)) {
    const auto part = boxes.subspan(first, std::min(size_t(kBlock), boxes.size() - first));
    Block<T> block(part, valid.empty() ? nullptr : &valid[first]);
    surround(block);
    std::fill_n(block.iou, kBlock, T(0));
    std::fill_n(block.object, kBlock, T(0));
    for (size_t k = 0; k < objects.size(); ++k) {
      const Box<T>&o = objects[k], &a = block.around;
      if ((o.x1 < a.x2) & (o.x2 > a.x1) & (o.y1 < a.y2) & (o.y2 > a.y1))
        compare(block, int32_t(first), o, k, best[k]);
    }
    for (size_t i = 0; i < part.size(); ++i) {
      const T iou = block.iou[i];
      result.max_iou[first + i] = iou;
      result.assigned[first + i] = !valid.empty() && !valid[first + i] ? -1
                                   : objects.empty() || iou < negative ? 0
                                   : iou >= positive ? int32_t(block.object[i]) + 1
                                                     : -1;
    }
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
