#include "tools/bench/bench.h"

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>

#include "core/graph.h"
#include "nn/gradient_slices.h"
#include "nn/optim/optimizer.h"
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
  Bench(Workload& work, const BenchOptions& o, nn::Reducer* reducer = nullptr)
      : work_(work), options_(o), device_(work.parameters().device()), graph_(device_, !o.eager) {
    if (o.mode == BenchMode::infer) return;
    nn::ParameterStore& p = work.parameters();
    optimizer_.emplace(p, work.optimizer());
    if (reducer) slices_.emplace(p, *reducer, nn::slice_table(p, 1));
  }

  void step() {
    if (options_.mode == BenchMode::infer) {
      const autograd::NoGrad no_grad;
      run([&] { work_.infer(); });
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
    const Tensor loss = work_.loss();
    work_.parameters().clear_grads();
    slices_ ? slices_->backward({}, loss) : autograd::backward(loss);
    optimizer_->update(loss);
  }

  Workload& work_;
  BenchOptions options_;
  Device device_;
  Graph graph_;
  bool recorded_ = true;
  std::optional<nn::Optimizer> optimizer_;
  std::optional<nn::GradientSlices> slices_;
};

double seconds_of(Bench& b) {
  const auto begin = Clock::now();
  b.step();
  return since(begin);
}

double process_cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// Notes when it is handed each gradient.
struct Stopwatch : nn::Reducer {
  void reduce(size_t, Tensor&) override { seconds.push_back(since(begin)); }
  void join() override {}
  Clock::time_point begin;
  std::vector<double> seconds;
};

}  // namespace

BenchResult bench(Workload& work, const BenchOptions& options) {
  check(options.batch >= 1 && options.repeats >= 1 && options.warmup >= 0,
        "bench: batch {}, repeats {}, warm-up {}: expected at least 1, 1, 0", options.batch,
        options.repeats, options.warmup);
  const nn::ParameterStore& parameters = work.parameters();
  BenchResult r;
  {
    Bench b(work, options);
    for (int i = 0; i < options.warmup; ++i) b.step();
    const size_t allocations = b.memory().system_allocations;
    Allocator::of(parameters.device()).reset_peak();
    std::vector<double> times, cpu_times;
    for (int i = 0; i < options.repeats; ++i) {
      const double before = process_cpu_seconds();
      times.push_back(seconds_of(b));
      cpu_times.push_back(process_cpu_seconds() - before);
    }
    r.steady_allocations = b.memory().system_allocations - allocations;
    r.peak_memory_bytes = b.memory().peak;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    r.peak_rss_bytes = size_t(usage.ru_maxrss) * 1024;
    r.step_seconds = median(times);
    r.cpu_seconds = median(cpu_times);
    r.images_per_second = double(options.batch) / r.step_seconds;
    const auto [fastest, slowest] = std::ranges::minmax(times);
    r.spread = (slowest - fastest) / r.step_seconds;

    if (!options.ops && !options.roofline) return r;
    b.unroll();
    profile::start(parameters.device());
    r.profiled_seconds = seconds_of(b);
    for (auto& [name, row] : profile::stop()) {
      if (is_matmul(name)) r.matmul_flops += row.flops;
      if (options.ops) r.ops.push_back({name, row});
    }
  }
  std::sort(r.ops.begin(), r.ops.end(),
            [](const BenchOp& a, const BenchOp& b) { return a.row.seconds > b.row.seconds; });
  if (!options.roofline) return r;
  r.roofline = measure_roofline(parameters.device(), parameters.dtype());
  r.roofline_share = r.matmul_flops / r.roofline.matmul_flops / r.step_seconds;
  for (BenchOp& op : r.ops) op.limit = limit_of(r.roofline, op.name, op.row);
  return r;
}

std::vector<double> gradient_ready_times(Workload& work, const BenchOptions& options) {
  Stopwatch stopwatch;
  Bench b(work, options, &stopwatch);
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
