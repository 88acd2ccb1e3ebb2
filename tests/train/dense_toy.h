// A second task, complete in this file: which pixels of drawn images belong to a bright rectangle.
// Its batches have two sizes, the images in them sizes of their own; its loss has two parts, and
// less is better of the score that chooses.
#pragma once
#include "nn/layers.h"
#include "ops/group_norm/group_norm.h"
#include "tests/train/toy.h"

namespace sg::test {

struct DenseToy : tasks::Task {
  static constexpr int64_t kBatch = 3, kBatches = 6;
  static constexpr std::array<std::pair<int64_t, int64_t>, 2> kSizes{{{6, 8}, {8, 6}}};
  nn::ParameterStore store;
  nn::ConvNorm conv{nn::ParameterScope(store), "conv", nn::ConvNorm::Kind::conv1x1, 3, 8, 1,
                    Activation::gelu};
  nn::Linear head{nn::ParameterScope(store), "head", 8, 2};
  // Where batches of each size lie; targets: one-hot rows (pixels, 2) that weigh each pixel alike
  // and padding not at all, and those of either kind of pixel alone.
  struct Room {
    Tensor images, valid, targets[3];
  } rooms[2];
  int64_t epoch = 0, next = 0;
  std::function<void(int64_t step)> hook = [](int64_t) {};

  explicit DenseToy(Device device = {}) {
    store.allocate(Dtype::f32, device);
    store.initialize(7);
    for (size_t s = 0; s < 2; ++s) {
      const auto [h, w] = kSizes[s];
      rooms[s].images = empty({kBatch, h, w, 3}, Dtype::f32, device);
      rooms[s].valid = empty({kBatch, 2}, Dtype::i32, device);
      for (Tensor& t : rooms[s].targets) t = empty({kBatch * h * w, 2}, Dtype::f32, device);
    }
  }
  nn::ParameterStore& parameters() override { return store; }
  int64_t batches() const override { return kBatches; }
  int64_t batch_size() const override { return kBatch; }
  void start_epoch(int64_t e, int64_t first) override { epoch = e, next = first; }

  // Batch `index` of stream 0, for validation, or of epoch stream - 1; the labels (pixels) i32, -1
  // at padding.
  std::pair<tasks::Batch, Tensor> draw(uint64_t stream, int64_t index) {
    Random random(5, Purpose::test, stream, uint64_t(index));
    Room& room = rooms[size_t(random.integer(0, 1))];
    const int64_t h = room.images.dim(1), w = room.images.dim(2);
    Tensor images = zeros(room.images.shape());
    Tensor valid = empty({kBatch, 2}, Dtype::i32);
    Tensor labels = full({kBatch * h * w}, -1, Dtype::i32);
    int64_t pixels = 0;
    for (int64_t b = 0; b < kBatch; ++b) {
      const int64_t vh = random.integer(h - 3, h), vw = random.integer(w - 3, w);
      valid.data<int32_t>()[2 * b] = int32_t(vh), valid.data<int32_t>()[2 * b + 1] = int32_t(vw);
      const int64_t top = random.integer(0, vh - 3), left = random.integer(0, vw - 3);
      for (int64_t y = 0; y < vh; ++y)
        for (int64_t x = 0; x < vw; ++x) {
          const bool inside = y >= top && y < top + 4 && x >= left && x < left + 4;
          const int64_t at = (b * h + y) * w + x;
          labels.data<int32_t>()[at] = inside;
          for (int64_t c = 0; c < 3; ++c)
            images.data<float>()[3 * at + c] = float(random.normal() + (inside ? 1.5 : 0));
          ++pixels;
        }
    }
    room.images.copy_(images), room.valid.copy_(valid);
    for (int t = 0; t < 3; ++t) {
      Tensor target = zeros(room.targets[t].shape());
      for (int64_t i = 0; i < labels.numel(); ++i)
        if (const int32_t k = labels.data<int32_t>()[i]; k >= 0 && (t == 0 || t == k + 1))
          target.data<float>()[2 * i + k] = float(labels.numel()) / float(pixels);
      room.targets[t].copy_(target);
    }
    return {{.images = room.images,
             .valid = room.valid,
             .targets = {room.targets[0], room.targets[1], room.targets[2]}},
            labels};
  }
  tasks::Batch load_batch(const tasks::BatchPosition& position) override {
    hook(position.step);
    tasks::Batch batch = draw(uint64_t(epoch) + 1, next++).first;
    batch.position = position;
    return batch;
  }

  Tensor logits(const Tensor& images) const {  // (pixels, 2)
    const Tensor map = head(conv(images));
    Tensor rows = map.detach().view({map.numel() / 2, 2});
    autograd::record("rows", {&rows}, {map}, [shape = map.shape()](autograd::Backward& g) {
      g.forward_grad(0, g.dy().view(shape));
    });
    return rows;
  }
  tasks::Losses losses(const tasks::Batch& batch) override {
    const Tensor z = logits(batch.images);
    tasks::Losses losses{.total = soft_cross_entropy(z, batch.targets[0]).loss, .parts = {}};
    for (int k : {1, 2})
      losses.parts.push_back(soft_cross_entropy(z.detach(), batch.targets[size_t(k)]).loss);
    return losses;
  }
  std::vector<std::string> loss_parts() const override { return {"ground", "object"}; }

  std::optional<Schedule> schedule(int64_t total_steps) const override {
    return PolynomialSchedule{
        .steps = total_steps, .lr = 0.05, .min_lr = 1e-3, .power = 0.9, .warmup = {3, 0.1}};
  }
  ScoreSchema schema() const override {
    return {{.name = "error",
             .label = "wrong",
             .title = "wrong pixels",
             .chart = "Wrong pixels",
             .unit = "%",
             .digits = 1,
             .more_is_better = false},
            {.name = "loss",
             .label = "loss",
             .title = "validation loss",
             .digits = 3,
             .more_is_better = false}};
  }
  std::optional<tasks::Scores> evaluate(const Progress& progress) override {
    const autograd::NoGrad no_grad;
    tasks::Mean error, loss;
    tasks::Scores scores;
    for (int64_t i = 0; i < 2; ++i) {
      const auto [batch, labels] = draw(0, i);
      const Tensor z = logits(batch.images);
      loss.add(soft_cross_entropy(z, batch.targets[0]).loss.to(Device{}).item());
      const std::vector<float> values = to_vector<float>(z);
      for (int64_t p = 0; p < labels.numel(); ++p)
        if (const int32_t k = labels.data<int32_t>()[p]; k >= 0)
          error.add(100.0 * ((values[size_t(2 * p + 1)] > values[size_t(2 * p)]) != (k == 1)));
      scores = {{{"error", error.value()}, {"loss", loss.value()}}};
      if (!progress(i + 1, 2, scores)) return {};
    }
    return scores;
  }
};

}  // namespace sg::test
