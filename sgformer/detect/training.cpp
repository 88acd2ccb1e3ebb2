#include "sgformer/detect/training.h"

#include <algorithm>
#include <cstring>

#include "core/cpu/parallel.h"
#include "core/text.h"
#include "ops/drop_path/drop_path.h"
#include "ops/mask_loss/mask_loss.h"
#include "ops/mask_targets/mask_targets.h"
#include "ops/slice/slice.h"
#include "sgformer/detect/batch.h"
#include "sgformer/detect/losses.h"

namespace sg::sgformer {
namespace {

void check_objects(const Tensor& images, std::span<const TrainingObjects> objects,
                   int64_t classes) {
  check_dims("training losses", "images", images, 4);
  check(int64_t(objects.size()) == images.dim(0), "training losses: {} images, objects of {}",
        images.dim(0), objects.size());
  for (size_t i = 0; i < objects.size(); ++i) {
    const auto& [image, padded, boxes, labels, mask] = objects[i];
    check(0 < image.height && image.height <= padded.height && padded.height <= images.dim(1) &&
              0 < image.width && image.width <= padded.width && padded.width <= images.dim(2),
          "training losses: image {} of {}, padded to {}, is none of a batch {}", i, str(image),
          str(padded), images.shape().str());
    check(labels.size() == boxes.size() && (mask || boxes.empty()),
          "training losses: image {}: {} boxes, {} labels, masks {}", i, boxes.size(),
          labels.size(), mask ? "given" : "missing");
    for (size_t k = 0; k < boxes.size(); ++k) {
      const Box<float>& b = boxes[k];
      if (!(0 <= b.x1 && b.x1 < b.x2 && b.x2 <= float(image.width) && 0 <= b.y1 && b.y1 < b.y2 &&
            b.y2 <= float(image.height)))
        fail(ExitCode::data,
             "image {} of the batch, object {}: expected a box with an area in {}, found "
             "({}, {}, {}, {})",
             i, k, str(image), b.x1, b.y1, b.x2, b.y2);
      if (labels[k] < 0 || labels[k] >= classes)
        fail(ExitCode::data,
             "image {} of the batch, object {}: expected a label of 0 to {}, found {}", i, k,
             classes - 1, labels[k]);
    }
  }
}

// What the host decides of an image: the boxes that losses take.
template <class T>
struct Targets {
  RpnTargets anchors;
  std::vector<BoxDelta<T>> deltas;  // of the positive anchors
  RoiTargets<T> rois;
};

template <class T>
Targets<T> targets_of(const BatchProposals<T>& rpn, int64_t image, const TrainingObjects& objects,
                      int64_t classes, const TargetDraw& draw) {
  std::vector<Box<T>> boxes;
  for (const Box<float>& b : objects.boxes) boxes.push_back({b.x1, b.y1, b.x2, b.y2});
  Targets<T> result;
  result.anchors = rpn_targets<T>(rpn.anchors(), objects.padded, boxes, draw);
  for (size_t i = 0; i < result.anchors.positive.size(); ++i)
    result.deltas.push_back(
        BoxCoder().encode(rpn.anchors().boxes()[size_t(result.anchors.positive[i])],
                          boxes[size_t(result.anchors.positive_object[i])]));
  const Proposals<T> proposals = rpn.of(image, objects.image, kTrainProposals);
  result.rois = roi_targets<T>(proposals.boxes, boxes, objects.labels, classes, draw);
  return result;
}

// The same of the whole batch, as tensors are made of it.
template <class T>
struct BatchTargets {
  std::vector<int32_t> positive, negative;
  std::vector<BoxDelta<T>> deltas;  // of positive anchors
  BatchRois<T> rois, mask_rois;     // all, and the positive ones
  std::vector<int32_t> labels, mask_labels;
  std::vector<BoxDelta<T>> roi_deltas;  // of positive ones
};

template <class V>
void append(std::vector<V>& to, const std::vector<V>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

template <class T>
BatchTargets<T> join(std::span<const Targets<T>> images, int64_t anchors) {
  check(anchors * int64_t(images.size()) <= std::numeric_limits<int32_t>::max(),
        "training losses: {} anchors of {} images are too many", anchors, images.size());
  BatchTargets<T> all;
  for (size_t b = 0; b < images.size(); ++b) {
    const auto& [of_anchors, deltas, rois] = images[b];
    const auto first = int32_t(int64_t(b) * anchors);
    for (const int32_t i : of_anchors.positive) all.positive.push_back(first + i);
    for (const int32_t i : of_anchors.negative) all.negative.push_back(first + i);
    append(all.deltas, deltas);
    const size_t positives = rois.objects.size();
    for (size_t i = 0; i < rois.proposals.size(); ++i) {
      all.rois.add(int64_t(b), rois.proposals[i]);
      if (i < positives) all.mask_rois.add(int64_t(b), rois.proposals[i]);
    }
    append(all.labels, rois.labels);
    all.mask_labels.insert(all.mask_labels.end(), rois.labels.begin(),
                           rois.labels.begin() + int64_t(positives));
    append(all.roi_deltas, rois.targets);
  }
  return all;
}

// The mask of an object, padded.
void write_mask(const TrainingObjects& objects, int64_t object, uint8_t* pixels) {
  const auto height = size_t(objects.image.height), width = size_t(objects.image.width);
  const auto row = size_t(objects.padded.width);
  objects.mask(object, pixels);
  for (size_t y = height; y-- > 0;) {
    std::memmove(pixels + y * row, pixels + y * width, width);
    std::memset(pixels + y * row + width, 0, row - width);
  }
  std::memset(pixels + height * row, 0, (size_t(objects.padded.height) - height) * row);
}

// Of the positive proposals of an image, written to `targets` (of each size * size). A few masks
// are in memory at a time.
constexpr size_t kMasks = 16;
template <class T>
void mask_targets_of(const TrainingObjects& objects, const RoiTargets<T>& rois, int64_t size,
                     uint8_t* targets) {
  std::vector<int32_t> used = rois.objects;
  std::sort(used.begin(), used.end());
  used.erase(std::unique(used.begin(), used.end()), used.end());
  for (size_t first = 0; first < used.size(); first += kMasks) {
    const auto some = std::span(used).subspan(first, std::min(kMasks, used.size() - first));
    Tensor masks =
        empty({int64_t(some.size()), objects.padded.height, objects.padded.width}, Dtype::u8);
    parallel_for(int64_t(some.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        write_mask(objects, some[size_t(i)], masks.slice(i, i + 1).data<uint8_t>());
    });
    std::vector<size_t> rows;
    std::vector<int32_t> of_rows;
    std::vector<T> boxes;
    for (size_t i = 0; i < rois.objects.size(); ++i) {
      const auto at = std::find(some.begin(), some.end(), rois.objects[i]);
      if (at == some.end()) continue;
      rows.push_back(i), of_rows.push_back(int32_t(at - some.begin()));
      const Box<T>& box = rois.proposals[i];
      boxes.insert(boxes.end(), {box.x1, box.y1, box.x2, box.y2});
    }
    const auto n = int64_t(rows.size());
    const Tensor made =
        mask_targets(masks, from_vector(boxes, {n, 4}), from_vector(of_rows, {n}), size);
    const int64_t pixels = size * size;
    for (int64_t i = 0; i < n; ++i)
      std::copy_n(made.data<uint8_t>() + i * pixels, pixels,
                  targets + int64_t(rows[size_t(i)]) * pixels);
  }
}

template <class T>
class Training {
 public:
  Training(const Detector& model, std::span<const TrainingObjects> objects)
      : model_(model), objects_(objects) {}

  std::array<Tensor, kDetectorLosses.size()> operator()(const std::vector<Tensor>& pyramid,
                                                        const TargetDraw& first) const {
    const RpnHead::Output anchors = model_.rpn(pyramid);
    const BatchProposals<T> rpn(anchors);
    const int64_t n = int64_t(objects_.size()), classes = model_.config().heads.classes;
    std::vector<Targets<T>> images(objects_.size());
    parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        images[size_t(i)] = targets_of(rpn, i, objects_[size_t(i)], classes,
                                       {first.seed, first.step, first.image + uint64_t(i)});
    });
    const BatchTargets<T> all =
        join(std::span<const Targets<T>>(images), int64_t(rpn.anchors().boxes().size()));

    const Device device = pyramid[0].device();
    const auto [rpn_cls, rpn_box] =
        rpn_loss(anchors, {integers(all.positive, device), integers(all.negative, device),
                           deltas(all.deltas, device)});
    const auto [cls, box] = roi_loss(
        model_.boxes(pyramid, all.rois.rois(device), all.rois.levels(device)),
        {integers(all.labels, device), integers(positive_rows(all.labels, classes), device),
         deltas(all.roi_deltas, device)});
    return {rpn_cls, rpn_box, cls, box, mask(pyramid, images, all)};
  }

 private:
  static Tensor integers(const std::vector<int32_t>& values, Device device) {
    return from_vector(values, {int64_t(values.size())}).to(device);
  }
  static Tensor deltas(const std::vector<BoxDelta<T>>& values, Device device) {
    Tensor result = empty({int64_t(values.size()), 4}, dtype_of<T>());
    T* to = result.data<T>();
    for (const BoxDelta<T>& d : values)
      for (const T v : {d.dx, d.dy, d.dw, d.dh}) *to++ = v;
    return result.to(device);
  }

  // Without a positive proposal the head sees an empty box, whose logits the loss leaves out: its
  // parameters have a gradient in every step.
  Tensor mask(const std::vector<Tensor>& pyramid, std::span<const Targets<T>> images,
              const BatchTargets<T>& all) const {
    const Device device = pyramid[0].device();
    const int64_t n = all.mask_rois.size(), size = 2 * model_.config().heads.mask_size;
    Tensor targets = empty({n, size, size}, Dtype::u8);
    uint8_t* to = targets.data<uint8_t>();
    for (size_t b = 0; b < images.size(); ++b) {
      mask_targets_of(objects_[b], images[b].rois, size, to);
      to += int64_t(images[b].rois.objects.size()) * size * size;
    }
    BatchRois<T> rois = all.mask_rois;
    if (n == 0) rois.add(0, {});
    const Tensor logits = model_.masks(pyramid, rois.rois(device), rois.levels(device));
    return mask_loss(n ? logits : slice(logits, 0, 0, 0), integers(all.mask_labels, device),
                     targets.to(device));
  }

  const Detector& model_;
  std::span<const TrainingObjects> objects_;
};

}  // namespace

DetectorLosses training_losses(const Detector& model, const Tensor& images,
                               std::span<const TrainingObjects> objects, const TargetDraw& first,
                               const ForwardOptions& options) {
  check_objects(images, objects, model.config().heads.classes);
  DetectorLosses losses;
  dispatch<float, double>(acc_dtype(images.dtype()), "training losses", [&]<class T>() {
    const auto parts = Training<T>(model, objects)(model.pyramid(images, options), first);
    for (const Tensor& part : parts) {
      losses.total = losses.total ? drop_path_add(losses.total, part, {}) : part;
      losses.parts.push_back(part.detach());
    }
  });
  return losses;
}

}  // namespace sg::sgformer
