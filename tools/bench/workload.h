// What a step of a benchmark does: a model of any task with random images and labels, which are
// made once.
#pragma once
#include <memory>

#include "core/box.h"
#include "ops/adamw/adamw.h"
#include "sgformer/classifier.h"
#include "sgformer/detect/detector.h"
#include "sgformer/segment/segmentor.h"

namespace sg::benchmark {

class Workload {
 public:
  virtual ~Workload() = default;
  virtual nn::ParameterStore& parameters() = 0;
  virtual AdamWSettings optimizer() const = 0;
  virtual void infer() = 0;
  virtual Tensor loss() = 0;  // of training, on the tape
};

// The model must outlive it, and its parameters be allocated.
// Classification trains with stochastic depth, smoothed cross entropy and EMA.
std::unique_ptr<Workload> workload(sgformer::Classifier& model, int64_t batch, ImageSize image);
// Segmentation trains on crops of this size, as the recipe of the head: stochastic depth, dropout,
// batch statistics, the auxiliary head, the loss at the size of the crop, no EMA. Inference is that
// of whole images: the network sees multiples of 32 pixels (AlignResize), and each pixel of the
// image gets a label.
std::unique_ptr<Workload> workload(sgformer::Segmentor& model, int64_t batch, ImageSize image);
// Detection trains on images of eight objects each. Inference ends with the 100 best boxes of an
// image and their masks.
std::unique_ptr<Workload> workload(sgformer::Detector& model, int64_t batch, ImageSize image);

}  // namespace sg::benchmark
