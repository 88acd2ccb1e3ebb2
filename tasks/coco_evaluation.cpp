#include "tasks/coco_evaluation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <tuple>

#include "core/cpu/parallel.h"
#include "core/error.h"
#include "tasks/metrics.h"

namespace sg::tasks {
namespace {

using data::CocoObject;
using data::MeasuredMask;

constexpr int kRecalls = 101;
enum Area { kAll, kSmall, kMedium, kLarge };

// "begin + i step" of numpy.linspace, which sets the last to the end.
constexpr double linspace(double begin, double end, int n, int i) {
  return i == n - 1 ? end : i * ((end - begin) / (n - 1)) + begin;
}
constexpr double threshold(int t) { return linspace(0.5, 0.95, kCocoThresholds, t); }
constexpr double recall_level(int r) { return linspace(0, 1, kRecalls, r); }

bool is_within(double area, int range) {
  constexpr double kBegin[] = {0, 0, 1024, 9216}, kEnd[] = {1e10, 1024, 9216, 1e10};
  return area >= kBegin[range] && area <= kEnd[range];
}
bool is_ignored(const CocoObject& object, int range) {
  return object.crowd || !is_within(object.area, range);
}

// Detections and objects of one image and class.
struct Group {
  std::vector<const CocoDetection*> detections;  // the highest score first
  std::vector<const CocoObject*> objects;
  std::vector<double> ious;  // [detection][object]
};

// Matches detections in turn, each to the object of the highest IoU that is left: for one range of
// areas.
void match(const Group& group, int range, std::span<JudgedDetection> judged) {
  const size_t objects = group.objects.size();
  std::vector<size_t> order(objects);  // those that count first
  std::iota(order.begin(), order.end(), size_t{0});
  const auto ignored = [&](size_t g) { return is_ignored(*group.objects[g], range); };
  const auto counted =
      size_t(std::ranges::stable_partition(order, std::not_fn(ignored)).begin() - order.begin());
  std::vector<bool> taken(objects);
  for (int t = 0; t < kCocoThresholds; ++t) {
    taken.assign(objects, false);
    const auto bit = uint16_t(1u << t);
    for (size_t d = 0; d < judged.size(); ++d) {
      double best = std::min(threshold(t), 1 - 1e-10);
      size_t found = objects;
      for (size_t k = 0; k < objects; ++k) {
        const size_t g = order[k];
        if (taken[g] && !group.objects[g]->crowd) continue;
        // One that counts is kept, whatever the IoU of those that do not.
        if (k >= counted && found != objects && !ignored(found)) break;
        if (group.ious[d * objects + g] < best) continue;
        best = group.ious[d * objects + g], found = g;
      }
      const auto at = size_t(range);
      if (found != objects) {
        taken[found] = true;
        judged[d].matched[at] |= bit;
        if (ignored(found)) judged[d].ignored[at] |= bit;
      } else if (!is_within(group.detections[d]->area, range)) {
        judged[d].ignored[at] |= bit;
      }
    }
  }
}

// Of one class and range of areas, for the thresholds.
struct Curve {
  bool exists = false;                              // there are objects
  std::array<double, kCocoThresholds> precision{};  // mean over the levels of recall
  std::array<double, kCocoThresholds> recall{};     // of all detections
};

// Detections in the order of their scores, of each image the first `most`.
Curve curve_of(std::span<const JudgedDetection* const> detections, int range, int most,
               int64_t objects) {
  Curve curve{.exists = objects > 0};
  if (!curve.exists) return curve;
  const auto at = size_t(range);
  std::vector<double> precisions;  // at each detection that is right
  for (int t = 0; t < kCocoThresholds; ++t) {
    precisions.clear();
    int64_t wrong = 0;
    for (const JudgedDetection* d : detections) {
      if (d->rank >= most || d->ignored[at] >> t & 1) continue;
      if (!(d->matched[at] >> t & 1)) {
        ++wrong;
        continue;
      }
      const auto right = double(precisions.size() + 1);
      precisions.push_back(right /
                           (right + double(wrong) + std::numeric_limits<double>::epsilon()));
    }
    // The precision at a recall is the best at that or any higher one.
    for (size_t i = precisions.size(); i-- > 1;)
      precisions[i - 1] = std::max(precisions[i - 1], precisions[i]);
    double sum = 0;
    size_t i = 0;
    for (int r = 0; r < kRecalls; ++r) {
      while (i < precisions.size() && double(i + 1) / double(objects) < recall_level(r)) ++i;
      if (i == precisions.size()) break;
      sum += precisions[i];
    }
    curve.precision[size_t(t)] = sum / kRecalls;
    curve.recall[size_t(t)] = double(precisions.size()) / double(objects);
  }
  return curve;
}

// What the twelve numbers are means of: a range of areas each, or the most detections.
struct ClassCurves {
  std::array<Curve, kCocoAreas> areas;
  Curve one, ten;
};

}  // namespace

std::vector<JudgedDetection> CocoEvaluation::judge(
    int64_t image, std::span<const CocoDetection> detections) const {
  std::vector<const CocoDetection*> order;
  for (const CocoDetection& d : detections) {
    if (!std::isfinite(d.score))
      fail(ExitCode::nonfinite, "image {}: the score of a detection is {}", truth_.image(image).id,
           d.score);
    order.push_back(&d);
  }
  std::ranges::stable_sort(order, {},
                           [](const CocoDetection* d) { return std::pair(d->label, -d->score); });
  std::vector<JudgedDetection> all;
  for (auto begin = order.begin(); begin != order.end();) {
    const int32_t label = (*begin)->label;
    const auto end = std::find_if(begin, order.end(), [&](auto* d) { return d->label != label; });
    Group group;
    group.detections.assign(begin, begin + std::min<std::ptrdiff_t>(end - begin, kCocoDetections));
    begin = end;
    std::vector<MeasuredMask> masks;
    for (const CocoObject& object : truth_.objects(image)) {
      if (object.label != label) continue;
      group.objects.push_back(&object);
      if (iou_ == CocoIou::masks) masks.emplace_back(truth_.mask(image, object));
    }
    for (const CocoDetection* d : group.detections)
      for (size_t g = 0; g < group.objects.size(); ++g) {
        const CocoObject& object = *group.objects[g];
        group.ious.push_back(iou_ == CocoIou::boxes
                                 ? data::box_iou(d->box, object.box, object.crowd)
                                 : data::mask_iou(*d->mask, masks[g], object.crowd));
      }
    const size_t first = all.size();
    for (size_t d = 0; d < group.detections.size(); ++d)
      all.push_back({group.detections[d]->score, label, int32_t(image), int32_t(d), {}, {}});
    for (int range = 0; range < kCocoAreas; ++range)
      match(group, range, std::span(all).subspan(first));
  }
  return all;
}

void CocoEvaluation::add(std::span<const JudgedDetection> judged) {
  judged_.insert(judged_.end(), judged.begin(), judged.end());
}

CocoScores CocoEvaluation::scores() const {
  const size_t classes = truth_.class_names().size();
  std::vector<std::array<int64_t, kCocoAreas>> objects(classes);  // that count
  for (int64_t i = 0; i < truth_.size(); ++i)
    for (const CocoObject& object : truth_.objects(i))
      for (int range = 0; range < kCocoAreas; ++range)
        objects[size_t(object.label)][size_t(range)] += !is_ignored(object, range);
  std::vector<std::vector<const JudgedDetection*>> detections(classes);
  for (const JudgedDetection& d : judged_) detections[size_t(d.label)].push_back(&d);

  std::vector<ClassCurves> curves(classes);
  parallel_for(int64_t(classes), 1, [&](int64_t begin, int64_t end) {
    for (auto c = size_t(begin); c < size_t(end); ++c) {
      // Of equal scores those of the lower image first.
      std::ranges::sort(detections[c], {}, [](const JudgedDetection* d) {
        return std::tuple(-d->score, d->image, d->rank);
      });
      const auto curve = [&](int range, int most) {
        return curve_of(detections[c], range, most, objects[c][size_t(range)]);
      };
      for (int range = 0; range < kCocoAreas; ++range)
        curves[c].areas[size_t(range)] = curve(range, kCocoDetections);
      curves[c].one = curve(kAll, 1), curves[c].ten = curve(kAll, 10);
    }
  });

  // Over the classes that have objects, and all thresholds or one.
  using Values = std::array<double, kCocoThresholds>;
  const auto mean = [&](auto&& curve_in, Values Curve::*values, std::optional<size_t> t = {}) {
    Mean mean;
    for (const ClassCurves& c : curves)
      if (const Curve& curve = curve_in(c); curve.exists)
        for (size_t k = 0; k < kCocoThresholds; ++k)
          if (!t || k == *t) mean.add((curve.*values)[k]);
    return mean.weight > 0 ? mean.value() : -1;
  };
  const auto area = [](int range) {
    return [=](const ClassCurves& c) -> const Curve& { return c.areas[size_t(range)]; };
  };
  constexpr size_t k50 = 0, k75 = 5;
  CocoScores scores;
  scores.stats = {mean(area(kAll), &Curve::precision),
                  mean(area(kAll), &Curve::precision, k50),
                  mean(area(kAll), &Curve::precision, k75),
                  mean(area(kSmall), &Curve::precision),
                  mean(area(kMedium), &Curve::precision),
                  mean(area(kLarge), &Curve::precision),
                  mean([](const ClassCurves& c) -> const Curve& { return c.one; }, &Curve::recall),
                  mean([](const ClassCurves& c) -> const Curve& { return c.ten; }, &Curve::recall),
                  mean(area(kAll), &Curve::recall),
                  mean(area(kSmall), &Curve::recall),
                  mean(area(kMedium), &Curve::recall),
                  mean(area(kLarge), &Curve::recall)};
  for (const ClassCurves& c : curves) {
    const Curve& all = c.areas[kAll];
    Mean ap;
    for (const double p : all.precision) ap.add(p);
    scores.classes.push_back(
        all.exists ? CocoScores::Class{ap.value(), all.precision[k50], all.precision[k75]}
                   : CocoScores::Class{-1, -1, -1});
  }
  return scores;
}

CocoScores evaluate_results(const data::CocoAnnotations& truth, const data::CocoResults& results,
                            CocoIou iou) {
  CocoEvaluation evaluation(truth, iou);
  std::vector<std::vector<JudgedDetection>> parts(size_t(truth.size()));
  parallel_for(truth.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::vector<CocoDetection> detections;
      for (const data::CocoResult& r : results.of(i)) {
        CocoDetection d{.label = r.label, .score = r.score, .box = r.box, .area = r.box.area()};
        if (iou == CocoIou::masks) {
          d.mask.emplace(results.mask(i, r));
          if (!r.has_box) d.area = double(d.mask->area);
        }
        detections.push_back(std::move(d));
      }
      parts[size_t(i)] = evaluation.judge(i, detections);
    }
  });
  for (const auto& part : parts) evaluation.add(part);
  return evaluation.scores();
}

}  // namespace sg::tasks
