#include "sgformer/detect/inference.h"

#include "core/cpu/parallel.h"
#include "core/text.h"
#include "sgformer/detect/batch.h"
#include "sgformer/detect/scores.h"

namespace sg::sgformer {
namespace {

// One image after the other through the heads, whose results depend on no other one.
template <class T>
class Detection {
 public:
  Detection(const Detector& model, const Tensor& images)
      : model_(model), pyramid_(model.pyramid(images, {})) {}

  std::vector<DetectedObjects> operator()(std::span<const DetectedSize> sizes,
                                          const DetectSettings& settings) const {
    const auto n = int64_t(sizes.size());
    const BatchProposals<T> rpn(model_.rpn(pyramid_));
    std::vector<std::vector<Box<T>>> proposals(sizes.size());
    parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        proposals[size_t(i)] = rpn.of(i, sizes[size_t(i)].image, settings.proposals).boxes;
    });
    std::vector<DetectedObjects> results;
    for (int64_t i = 0; i < n; ++i)
      results.push_back(found(i, proposals[size_t(i)], sizes[size_t(i)], settings.detections));
    return results;
  }

 private:
  Device device() const { return pyramid_[0].device(); }

  DetectedObjects found(int64_t image, const std::vector<Box<T>>& proposals,
                        const DetectedSize& size, const DetectionSettings& settings) const {
    BatchRois<T> rois;
    for (const Box<T>& box : proposals) rois.add(image, box);
    const BoxHead::Output out = model_.boxes(pyramid_, rois.rois(device()), rois.levels(device()));
    const auto on_host = [](const Tensor& t) { return t.to(Device{}).to(dtype_of<T>()); };
    const Tensor logits = on_host(out.logits), deltas = on_host(out.deltas);
    const Detections<T> best =
        detections<T>(proposals, logits.span<T>(), deltas_of<T>(deltas),
                      model_.config().heads.classes, size.image, size.original, settings);
    DetectedObjects result;
    for (const Box<T>& box : best.boxes) result.boxes.push_back({box.x1, box.y1, box.x2, box.y2});
    result.scores.assign(best.scores.begin(), best.scores.end());
    result.labels = best.labels;
    result.masks = masks(image, best, size);
    return result;
  }

  // Detections are looked up where they lie in the resized image.
  Tensor masks(int64_t image, const Detections<T>& objects, const DetectedSize& size) const {
    const int64_t side = 2 * model_.config().heads.mask_size, pixels = side * side;
    const auto n = int64_t(objects.boxes.size());
    Tensor result = empty({n, side, side}, Dtype::f64);
    if (n == 0) return result;
    const T scale_x = T(size.image.width) / T(size.original.width);
    const T scale_y = T(size.image.height) / T(size.original.height);
    BatchRois<T> rois;
    for (const Box<T>& box : objects.boxes)
      rois.add(image, {box.x1 * scale_x, box.y1 * scale_y, box.x2 * scale_x, box.y2 * scale_y});
    const Tensor logits = model_.masks(pyramid_, rois.rois(device()), rois.levels(device()))
                              .to(Device{})
                              .to(dtype_of<T>());
    const int64_t classes = logits.dim(3);
    std::vector<T> of_class(size_t(result.numel())), scores(of_class.size());
    for (int64_t i = 0; i < result.numel(); ++i)
      of_class[size_t(i)] = logits.data<T>()[i * classes + objects.labels[size_t(i / pixels)]];
    sigmoid<T>(of_class, scores);
    std::copy(scores.begin(), scores.end(), result.data<double>());
    return result;
  }

  const Detector& model_;
  std::vector<Tensor> pyramid_;
};

}  // namespace

std::vector<DetectedObjects> detect(const Detector& model, const Tensor& images,
                                    std::span<const DetectedSize> sizes,
                                    const DetectSettings& settings) {
  check_dims("detect", "images", images, 4);
  check(int64_t(sizes.size()) == images.dim(0), "detect: {} images, sizes of {}", images.dim(0),
        sizes.size());
  for (const auto& [image, original] : sizes)
    check(image.height > 0 && image.width > 0 && image.height <= images.dim(1) &&
              image.width <= images.dim(2) && original.height > 0 && original.width > 0,
          "detect: an image of {}, of {} before, is none of a batch {}", str(image), str(original),
          images.shape().str());
  const autograd::NoGrad no_grad;
  std::vector<DetectedObjects> results;
  dispatch<float, double>(acc_dtype(images.dtype()), "detect", [&]<class T>() {
    results = Detection<T>(model, images)(sizes, settings);
  });
  return results;
}

}  // namespace sg::sgformer
