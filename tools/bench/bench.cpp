#include "tools/bench/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>

#include "core/graph.h"
#include "core/rng.h"
#include "nn/gradient_slices.h"
#include "nn/optim/optimizer.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "ops/linear/linear.h"
#include "tools/bench/median.h"

namespace sg::benchmark {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class Bench {
 public:
  // Gradients go to `reducer`, where there is one, each by itself.
  Bench(sgformer::Classifier& model, const BenchOptions& o, nn::Reducer* reducer = nullptr)
      : model_(model),
        options_(o),
        device_(model.parameters().device()),
        graph_(device_, !o.eager) {
    const nn::ParameterStore& p = model.parameters();
    Random random(0, Purpose::test);
    Tensor images = empty({o.batch, o.height, o.width, 3});
    for (float& v : images.span<float>()) v = float(random.normal());
    images_ = images.to(p.dtype()).to(device_);
    std::vector<int32_t> labels;
    for (int64_t i = 0; i < o.batch; ++i)
      labels.push_back(int32_t(random.integer(0, model.config().classes - 1)));
    labels_ = from_vector(labels, {o.batch}).to(device_);
    if (o.mode == BenchMode::infer) return;
    drop_paths_ = draw_drop_paths(model.config(), o.batch, 0, 0, 0, p.dtype()).to(device_);
    optimizer_.emplace(model.parameters(), AdamWSettings{.ema_decay = 0.99992});
    if (reducer)
      slices_.emplace(model.parameters(), *reducer, nn::slice_table(model.parameters(), 1));
  }

  void step() {
    if (options_.mode == BenchMode::infer) {
      const autograd::NoGrad no_grad;
      run([&] { model_.forward(images_); });
      backend(device_.type).synchronize(current_stream(device_));
      return;
    }
    optimizer_->prepare(1e-4);
    run([&] { train(); });
    optimizer_->finish();
  }

  // From now on a step is its operations, which can be timed; after one that asks for their memory,
  // in place of the record's: a GPU may not have room for both.
  void unroll() {
    if (device_.type == DeviceType::cpu || options_.eager) return;
    graph_.forget();
    recorded_ = false;
    step();
  }

  // Memory of tensors: of the device, and of the recorded step.
  AllocatorStats memory() const {
    AllocatorStats s = Allocator::of(device_).stats();
    s.peak += graph_.reserved();
    return s;
  }

 private:
  void run(const std::function<void()>& work) { recorded_ ? graph_.run({}, work) : work(); }
  void train() {
    nn::ParameterStore& p = model_.parameters();
    const Tensor logits = model_.forward(images_, {.drop_paths = drop_paths_}).logits;
    const Tensor targets =
        smooth_one_hot(labels_, model_.config().classes, 0.1, acc_dtype(logits.dtype()));
    p.clear_grads();
    const Tensor loss = soft_cross_entropy(logits, targets).loss;
    slices_ ? slices_->backward({}, loss) : autograd::backward(loss);
    optimizer_->update(loss);
  }

  sgformer::Classifier& model_;
  BenchOptions options_;
  Device device_;
  Graph graph_;
  bool recorded_ = true;
  Tensor images_, labels_, drop_paths_;
  std::optional<nn::Optimizer> optimizer_;
  std::optional<nn::GradientSlices> slices_;
};

double seconds_of(Bench& b) {
  const auto begin = Clock::now();
  b.step();
  return since(begin);
}

// Notes when it is handed each gradient.
struct Stopwatch : nn::Reducer {
  void reduce(size_t, Tensor&) override { seconds.push_back(since(begin)); }
  void join() override {}
  Clock::time_point begin;
  std::vector<double> seconds;
};

// As measure_roofline(), on a GPU: bytes by a copy of 1 GiB, operations by a matmul large enough
// to keep all of it busy.
Roofline roofline_of(Device device, Dtype dtype) {
  if (device.type == DeviceType::cpu) return measure_roofline();
  const autograd::NoGrad no_grad;
  Backend& b = backend(device.type);
  Stream& stream = current_stream(device);
  const auto fastest = [&](const std::function<void()>& work) {
    double best = INFINITY;
    for (int i = 0; i < 10; ++i) {
      const auto begin = b.event(device), end = b.event(device);
      begin->record(stream);
      work();
      end->record(stream), end->synchronize();
      best = std::min(best, end->seconds_since(*begin));
    }
    return best;
  };
  Roofline c;
  {
    const int64_t n = 8192;
    const Tensor x = full({n, n}, 0.5, dtype, device), w = full({n, n}, 0.25, dtype, device);
    c.flops = 2.0 * double(n * n * n) / fastest([&] { linear(x, w, {}); });
  }
  {
    const Tensor from = zeros({int64_t{1} << 30}, Dtype::u8, device);
    Tensor to = empty_like(from);
    c.bytes = 2.0 * double(from.bytes()) / fastest([&] { to.copy_(from); });
  }
  Allocator::of(device).release_cached();
  return c;
}

bool is_matmul(const std::string& op) {
  return op.starts_with("linear.") || op.starts_with("conv2d.");
}

}  // namespace

BenchResult bench(sgformer::Classifier& model, const BenchOptions& options) {
  check(options.batch >= 1 && options.repeats >= 1 && options.warmup >= 0,
        "bench: batch {}, repeats {}, warm-up {}: expected at least 1, 1, 0", options.batch,
        options.repeats, options.warmup);
  BenchResult r;
  {
    Bench b(model, options);
    for (int i = 0; i < options.warmup; ++i) b.step();
    const size_t allocations = b.memory().system_allocations;
    Allocator::of(model.parameters().device()).reset_peak();
    std::vector<double> times;
    for (int i = 0; i < options.repeats; ++i) times.push_back(seconds_of(b));
    r.steady_allocations = b.memory().system_allocations - allocations;
    r.peak_memory_bytes = b.memory().peak;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    r.peak_rss_bytes = size_t(usage.ru_maxrss) * 1024;
    r.step_seconds = median(times);
    r.images_per_second = double(options.batch) / r.step_seconds;
    const auto [fastest, slowest] = std::ranges::minmax(times);
    r.spread = (slowest - fastest) / r.step_seconds;

    if (!options.ops && !options.roofline) return r;
    b.unroll();
    profile::start(model.parameters().device());
    r.profiled_seconds = seconds_of(b);
    for (auto& [name, row] : profile::stop()) {
      if (is_matmul(name)) r.matmul_flops += row.flops;
      if (options.ops) r.ops.push_back({name, row});
    }
  }
  std::sort(r.ops.begin(), r.ops.end(),
            [](const BenchOp& a, const BenchOp& b) { return a.row.seconds > b.row.seconds; });
  if (!options.roofline) return r;
  r.roofline = roofline_of(model.parameters().device(), model.parameters().dtype());
  r.roofline_share = r.matmul_flops / r.roofline.flops / r.step_seconds;
  for (BenchOp& op : r.ops)
    op.roofline_share =
        std::max(op.row.flops / r.roofline.flops, op.row.bytes / r.roofline.bytes) / op.row.seconds;
  return r;
}

std::vector<double> gradient_ready_times(sgformer::Classifier& model, const BenchOptions& options) {
  Stopwatch stopwatch;
  Bench b(model, options, &stopwatch);
  std::vector<std::vector<double>> shares;  // by gradient, of each repeat
  // The first step hands over all gradients at its end: it learns when they are complete.
  for (int64_t i = -std::max<int64_t>(options.warmup, 1); i < options.repeats; ++i) {
    stopwatch.begin = Clock::now(), stopwatch.seconds.clear();
    const double seconds = seconds_of(b);
    shares.resize(stopwatch.seconds.size());
    for (size_t g = 0; i >= 0 && g < shares.size(); ++g)
      shares[g].push_back(stopwatch.seconds[g] / seconds);
  }
  std::vector<double> medians;
  for (auto& of_gradient : shares) medians.push_back(median(std::move(of_gradient)));
  return medians;
}

}  // namespace sg::benchmark
