#include "tools/bench/workload.h"

#include "core/rng.h"
#include "infer/segmenter.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "ops/drop_path/drop_path.h"
#include "ops/dropout2d/dropout2d.h"
#include "ops/pixel_cross_entropy/pixel_cross_entropy.h"
#include "ops/resized_labels/resized_labels.h"
#include "sgformer/detect/inference.h"
#include "sgformer/detect/training.h"

namespace sg::benchmark {
namespace {

Tensor random_images(const nn::ParameterStore& p, int64_t batch, ImageSize size) {
  Random random(0, Purpose::test);
  Tensor images = empty({batch, size.height, size.width, 3});
  for (float& v : images.span<float>()) v = float(random.normal());
  return images.to(p.dtype()).to(p.device());
}

template <class T>
Tensor random_labels(const nn::ParameterStore& p, Shape shape, int64_t classes) {
  Random random(1, Purpose::test);
  std::vector<T> labels(size_t(shape.numel()));
  for (T& label : labels) label = T(random.integer(0, classes - 1));
  return from_vector(labels, shape).to(p.device());
}

Tensor drop_paths_of(const nn::ParameterStore& p, const sgformer::Config& config, int64_t batch) {
  return draw_drop_paths(config, batch, 0, 0, 0, p.dtype()).to(p.device());
}

class ClassifierWorkload final : public Workload {
 public:
  ClassifierWorkload(sgformer::Classifier& model, int64_t batch, ImageSize image)
      : model_(model),
        images_(random_images(model.parameters(), batch, image)),
        labels_(random_labels<int32_t>(model.parameters(), {batch}, model.config().classes)),
        drop_paths_(drop_paths_of(model.parameters(), model.config(), batch)) {}

  nn::ParameterStore& parameters() override { return model_.parameters(); }
  AdamWSettings optimizer() const override { return {.ema_decay = 0.99992}; }
  void infer() override { model_.forward(images_); }
  Tensor loss() override {
    const Tensor logits = model_.forward(images_, {.drop_paths = drop_paths_}).logits;
    const Tensor targets =
        smooth_one_hot(labels_, model_.config().classes, 0.1, acc_dtype(logits.dtype()));
    return soft_cross_entropy(logits, targets).loss;
  }

 private:
  sgformer::Classifier& model_;
  Tensor images_, labels_, drop_paths_;
};

constexpr double kAuxiliaryWeight = 0.4;

class SegmentorWorkload final : public Workload {
 public:
  SegmentorWorkload(sgformer::Segmentor& model, int64_t batch, ImageSize image)
      : model_(model), image_(image), seen_(aligned(image.height), aligned(image.width)) {
    const nn::ParameterStore& p = model.parameters();
    const Dtype dtype = acc_dtype(p.dtype());
    const auto dropout = [&](uint32_t layer, int64_t channels) {
      Tensor keep = empty({batch, channels}, dtype);
      draw_dropout2d(model.config().dropout, 0, 0, layer, 0, keep);
      return keep.to(p.device());
    };
    crops_ = random_images(p, batch, image);
    images_ = seen_ == image ? crops_ : random_images(p, batch, seen_);
    labels_ = random_labels<uint8_t>(p, {batch, image.height, image.width}, model.config().classes);
    forward_ = {.drop_paths = drop_paths_of(p, model.config().backbone, batch),
                .dropout = dropout(0, model.dropout_channels()),
                .training = true};
    if (model.aux_dropout_channels() == 0) return;
    forward_.aux_dropout = dropout(1, model.aux_dropout_channels());
    auxiliary_weight_ = full({1}, kAuxiliaryWeight, dtype, p.device());
  }

  nn::ParameterStore& parameters() override { return model_.parameters(); }
  AdamWSettings optimizer() const override { return {.weight_decay = 0.01}; }
  void infer() override { resized_argmax(model_.forward(images_).logits, seen_, image_); }
  Tensor loss() override {
    const auto out = model_.forward(crops_, forward_);
    const Tensor decode = pixel_cross_entropy(out.logits, labels_);
    if (!out.aux_logits) return decode;
    return drop_path_add(decode, pixel_cross_entropy(out.aux_logits, labels_), auxiliary_weight_);
  }

 private:
  static int aligned(int side) {
    return (side + infer::kAlignResize - 1) / infer::kAlignResize * infer::kAlignResize;
  }

  sgformer::Segmentor& model_;
  ImageSize image_, seen_;
  Tensor crops_, images_, labels_, auxiliary_weight_;
  sgformer::Segmentor::ForwardOptions forward_;
};

constexpr int kObjects = 8;  // COCO's images have 7.3 in the mean

class DetectorWorkload final : public Workload {
 public:
  DetectorWorkload(sgformer::Detector& model, int64_t batch, ImageSize image)
      : model_(model),
        images_(random_images(model.parameters(), batch, image)),
        drop_paths_(drop_paths_of(model.parameters(), model.config().backbone, batch)),
        sizes_(size_t(batch), {image, image}) {
    Random random(1, Purpose::test);
    for (int64_t i = 0; i < batch; ++i) {
      sgformer::TrainingObjects& objects = objects_.emplace_back();
      objects.image = objects.padded = image;
      for (int k = 0; k < kObjects; ++k) {
        const auto side = [&](int of_image) {
          const double length = random.uniform(0.05, 0.6) * of_image;
          const double low = random.uniform(0, of_image - length);
          return std::pair(float(low), float(low + length));
        };
        const auto [x1, x2] = side(image.width);
        const auto [y1, y2] = side(image.height);
        objects.boxes.push_back({x1, y1, x2, y2});
        objects.labels.push_back(int32_t(random.integer(0, model.config().heads.classes - 1)));
      }
      objects.mask = [image](int64_t object, uint8_t* pixels) {
        std::fill_n(pixels, int64_t{image.height} * image.width, uint8_t(object % 2));
      };
    }
  }

  nn::ParameterStore& parameters() override { return model_.parameters(); }
  AdamWSettings optimizer() const override { return {.weight_decay = 0.05}; }
  // Of a model that knows nothing, the best are kept whatever their scores.
  void infer() override { detect(model_, images_, sizes_, {.detections = {.score_threshold = 0}}); }
  Tensor loss() override {
    return training_losses(model_, images_, objects_, {}, {.drop_paths = drop_paths_}).total;
  }

 private:
  sgformer::Detector& model_;
  Tensor images_, drop_paths_;
  std::vector<sgformer::DetectedSize> sizes_;
  std::vector<sgformer::TrainingObjects> objects_;
};

}  // namespace

std::unique_ptr<Workload> workload(sgformer::Classifier& model, int64_t batch, ImageSize image) {
  return std::make_unique<ClassifierWorkload>(model, batch, image);
}

std::unique_ptr<Workload> workload(sgformer::Segmentor& model, int64_t batch, ImageSize image) {
  return std::make_unique<SegmentorWorkload>(model, batch, image);
}

std::unique_ptr<Workload> workload(sgformer::Detector& model, int64_t batch, ImageSize image) {
  return std::make_unique<DetectorWorkload>(model, batch, image);
}

}  // namespace sg::benchmark
