// A run that takes milliseconds: three classes of points told apart by one linear layer.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>

#include "autograd/tape.h"
#include "nn/layers.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "tasks/classification.h"
#include "tests/support/files.h"
#include "train/trainer.h"

namespace sg::test {

struct Toy : tasks::Task {
  static constexpr int64_t kFeatures = 5, kClasses = 3;
  nn::ParameterStore store;
  nn::Linear linear{nn::ParameterScope(store), "fc", kFeatures, kClasses};
  int64_t batch = 4, batches_of_epoch = 6, epoch = 0, next = 0;
  // Called before each batch with the step; what it returns multiplies the loss.
  std::function<double(int64_t step)> hook = [](int64_t) { return 1.0; };
  std::function<void()> while_evaluating = [] {};

  explicit Toy(Dtype dtype = Dtype::f32, Device device = {}) {
    store.allocate(dtype, device);
    store.initialize(7);
  }
  nn::ParameterStore& parameters() override { return store; }
  int64_t batches() const override { return batches_of_epoch; }
  int64_t batch_size() const override { return batch; }
  void start_epoch(int64_t e, int64_t first) override { epoch = e, next = first; }

  static std::pair<Tensor, Tensor> samples(int64_t n, uint64_t stream, int64_t first) {
    Tensor x = empty({n, kFeatures}), labels = empty({n}, Dtype::i32);
    for (int64_t i = 0; i < n; ++i) {
      Random random(3, Purpose::test, stream, uint64_t(first + i));
      const auto label = int32_t(random.integer(0, kClasses - 1));
      labels.data<int32_t>()[i] = label;
      for (int64_t f = 0; f < kFeatures; ++f)
        x.data<float>()[i * kFeatures + f] = float(random.normal() + (f == label ? 3 : 0));
    }
    return {x, labels};
  }
  tasks::Batch load_batch(const tasks::BatchPosition& position) override {
    const auto [x, labels] = samples(batch, uint64_t(epoch) + 1, next++ * batch);
    const double factor = hook(position.step);
    Tensor targets = smooth_one_hot(labels, kClasses, 0.1);
    for (float& t : targets.span<float>()) t *= float(factor);
    return {.position = position, .images = x.to(store.dtype()), .valid = {}, .targets = {targets}};
  }
  tasks::Losses losses(const tasks::Batch& b) override {
    return {.total = soft_cross_entropy(linear(b.images), b.targets[0]).loss, .parts = {}};
  }
  std::optional<tasks::Scores> evaluate(const Progress& progress) override {
    const autograd::NoGrad no_grad;
    while_evaluating();
    const auto [x, labels] = samples(32, 0, 0);
    const Tensor z = linear(x.to(store.dtype()).to(store.device())).to(Device{}).to(Dtype::f32);
    const tasks::Scores scores{
        {{"loss", soft_cross_entropy(z, smooth_one_hot(labels, kClasses, 0)).loss.item()},
         {"top1", 100.0 / 32 * double(std::ranges::count(tasks::label_ranks(z, labels), 0))},
         {"top5", 100.0}}};
    if (!progress(1, 1, scores)) return {};
    return scores;
  }
  ScoreSchema schema() const override { return tasks::classification_scores(); }
  std::optional<double> chance_loss() const override { return std::log(double(kClasses)); }
};

inline train::Options toy_options() {
  train::Options o;
  o.data = "toy";
  o.epochs = 2, o.warmup_epochs = 1, o.cooldown_epochs = 1;
  o.lr = 0.05, o.warmup_lr = 0.02, o.min_lr = 0.001;
  o.model_ema_decay = 0.8;
  o.log_interval = 1;
  return o;
}

// Weights, moments and EMA.
inline std::vector<float> bits_of(const train::Trainer& trainer) {
  std::vector<float> all;
  for (const NamedTensor& t : trainer.checkpoint(nlohmann::json::object()).tensors)
    std::ranges::copy(to_vector<float>(t.second), std::back_inserter(all));
  return all;
}

// One process of a run: begins, or goes on from the newest checkpoint of the folder.
template <class T>
struct RunOf {
  std::filesystem::path folder;
  train::Options options = toy_options();
  T task{};
  report::Console console{true};
  std::optional<train::Trainer> trainer{};

  ExitCode go() {
    trainer.emplace(options, task, console);
    if (auto from = train::find_resumable(folder / "checkpoints"))
      trainer->restore(from->checkpoint, !options.no_resume_opt);
    if (options.start_epoch) trainer->start_at(*options.start_epoch);
    train::Outputs outputs{.log = report::RunLog(folder, trainer->state().step,
                                                 trainer->unevaluated_epoch(), task.schema()),
                           .checkpoints = train::CheckpointFolder(folder / "checkpoints"),
                           .identity = nlohmann::json::object()};
    return trainer->run(&outputs);
  }
  std::vector<float> bits() const { return bits_of(*trainer); }
  // The rows of metrics.jsonl without what is not the same twice.
  std::string log() const {
    std::istringstream lines(read_file(folder / "metrics.jsonl"));
    std::string all;
    for (std::string line; std::getline(lines, line);) {
      auto row = nlohmann::json::parse(line);
      for (const char* key : {"time", "seconds", "images_per_second", "data_seconds", "data_share"})
        row.erase(key);
      all += row.dump() + "\n";
    }
    return all + read_file(folder / "summary.csv");
  }
};
using ToyRun = RunOf<Toy>;

}  // namespace sg::test
