#include "tools/bench/loader_speed.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "data/loader.h"

namespace sg::benchmark {

LoaderSpeed benchmark_loader(const data::Dataset& dataset, const data::TransformConfig& config,
                             double seconds, int repeats) {
  using Clock = std::chrono::steady_clock;
  check(seconds > 0 && repeats > 0, "benchmark: {} repeats of {} seconds", repeats, seconds);
  data::Transform transform(config);
  std::vector<uint8_t> bytes,
      out(size_t(config.img_size.height) * size_t(config.img_size.width) * 3);
  data::EpochOrder order(dataset, {.seed = 0});
  order.start(0);
  LoaderSpeed speed;
  std::vector<double> rates;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const auto start = Clock::now();
    int64_t done = 0;
    double elapsed = 0;
    do {
      const int64_t step = speed.images + speed.broken + done;
      const int64_t sample = order.at(step % dataset.size()).sample;
      try {
        transform.train(*dataset.open(sample, bytes), 0, step / dataset.size(), sample, out.data());
        ++done;
      } catch (const Error& e) {
        if (e.code() != ExitCode::data) throw;
        ++speed.broken;
      }
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    } while (elapsed < seconds);
    rates.push_back(double(done) / elapsed);
    speed.images += done;
  }
  std::sort(rates.begin(), rates.end());
  speed.images_per_second = rates[rates.size() / 2];
  speed.slowest = rates.front(), speed.fastest = rates.back();
  return speed;
}

}  // namespace sg::benchmark
