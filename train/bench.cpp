#include "train/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "core/rng.h"
#include "ops/adamw/adamw.h"
#include "ops/cross_entropy/cross_entropy.h"

namespace sg::train {
namespace {

class Bench {
 public:
  Bench(sgformer::Model& model, const BenchOptions& o)
      : model_(model), options_(o), images_(empty({o.batch, o.height, o.width, 3})) {
    Random random(0, Purpose::test);
    for (float& v : images_.span<float>()) v = float(random.normal());
    std::vector<int32_t> labels;
    for (int64_t i = 0; i < o.batch; ++i)
      labels.push_back(int32_t(random.integer(0, model.config().classes - 1)));
    labels_ = from_vector(labels, {o.batch});
    if (o.mode == BenchMode::infer) return;
    const Shape flat = model.parameters().values().shape();
    m_ = zeros(flat), v_ = zeros(flat), ema_ = model.parameters().values().clone();
    segments_ = model.parameters().segments();
  }

  void step() {
    ++step_;
    if (options_.mode == BenchMode::infer) {
      const autograd::NoGrad no_grad;
      model_.forward(images_);
      return;
    }
    nn::ParameterStore& p = model_.parameters();
    const Tensor logits = model_.forward(images_, {.training = true, .step = step_}).logits;
    const Tensor targets = smooth_one_hot(labels_, model_.config().classes, 0.1);
    p.clear_grads();
    autograd::backward(soft_cross_entropy(logits, targets).loss);
    p.complete_grads();
    adamw(p.values(), p.grads(), m_, v_, ema_, segments_,
          {.lr = 1e-4, .ema_decay = 0.99992, .step = int64_t(step_)});
  }

 private:
  sgformer::Model& model_;
  BenchOptions options_;
  Tensor images_, labels_, m_, v_, ema_;
  std::vector<AdamWSegment> segments_;
  uint64_t step_ = 0;
};

double seconds_of(Bench& b) {
  const auto begin = std::chrono::steady_clock::now();
  b.step();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

bool is_product(const std::string& op) {
  return op.starts_with("linear.") || op.starts_with("conv2d.");
}

}  // namespace

BenchResult bench(sgformer::Model& model, const BenchOptions& options) {
  check(options.batch >= 1 && options.repeats >= 1 && options.warmup >= 0,
        "bench: batch {}, repeats {}, warm-up {}: expected at least 1, 1, 0", options.batch,
        options.repeats, options.warmup);
  BenchResult r;
  {
    Allocator& memory = Allocator::of({});
    Bench b(model, options);
    for (int i = 0; i < options.warmup; ++i) b.step();
    const size_t allocations = memory.stats().system_allocations;
    memory.reset_peak();
    std::vector<double> times;
    for (int i = 0; i < options.repeats; ++i) times.push_back(seconds_of(b));
    r.steady_allocations = memory.stats().system_allocations - allocations;
    r.peak_memory_bytes = memory.stats().peak;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    r.peak_rss_bytes = size_t(usage.ru_maxrss) * 1024;
    std::sort(times.begin(), times.end());
    r.step_seconds = times[times.size() / 2];
    r.images_per_second = double(options.batch) / r.step_seconds;
    r.spread = (times.back() - times.front()) / r.step_seconds;

    profile::start();
    r.profiled_seconds = seconds_of(b);
    for (auto& [name, row] : profile::stop()) {
      if (is_product(name)) r.product_flops += row.flops;
      if (options.ops) r.ops.push_back({name, row});
    }
  }
  r.ceilings = measure_ceilings();
  r.limit_share = r.product_flops / r.ceilings.flops / r.step_seconds;
  for (BenchOp& op : r.ops)
    op.limit_share =
        std::max(op.row.flops / r.ceilings.flops, op.row.bytes / r.ceilings.bytes) / op.row.seconds;
  std::sort(r.ops.begin(), r.ops.end(),
            [](const BenchOp& a, const BenchOp& b) { return a.row.seconds > b.row.seconds; });
  return r;
}

}  // namespace sg::train
