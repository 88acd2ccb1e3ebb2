#include "data/labelled_images.h"

#include <cstring>

namespace sg::data {
namespace {

class LabelledImageWorker final : public SampleMaker::Worker {
 public:
  LabelledImageWorker(const Dataset& dataset, const TransformConfig& transform, bool training)
      : dataset_(dataset), training_(training), transform_(transform) {}

  void make(const SampleDraw& draw, std::span<std::byte* const> out) override {
    const auto source = dataset_.open(draw.sample, bytes_);
    auto* image = reinterpret_cast<uint8_t*>(out[LabelledImages::kImages]);
    if (training_)
      // Draws are keyed by sample; the copies of one take keys that no sample has.
      transform_.train(*source, draw.seed, draw.epoch, draw.sample + draw.copy * dataset_.size(),
                       image);
    else
      transform_.eval(*source, image);
    const int32_t label = dataset_.label(draw.sample);
    std::memcpy(out[LabelledImages::kLabels], &label, sizeof label);
  }

 private:
  const Dataset& dataset_;
  bool training_;
  Transform transform_;
  std::vector<uint8_t> bytes_;
};

}  // namespace

LabelledImages::LabelledImages(std::shared_ptr<const Dataset> dataset,
                               const TransformConfig& transform)
    : dataset_(std::move(dataset)), transform_(transform) {
  transform_.check();
}

std::vector<SampleTensor> LabelledImages::tensors() const {
  const auto [height, width] = transform_.img_size;
  return {{{height, width, 3}, Dtype::u8}, {{}, Dtype::i32}};
}

std::unique_ptr<SampleMaker::Worker> LabelledImages::worker(bool training) const {
  return std::make_unique<LabelledImageWorker>(*dataset_, transform_, training);
}

}  // namespace sg::data
