#include "tools/bench/loader_speed.h"

#include <algorithm>

#include "core/cpu/memory.h"
#include "core/error.h"
#include "tools/bench/cpu_time.h"
#include "tools/bench/median.h"

namespace sg::benchmark {
namespace {

constexpr int64_t kImages = 250;  // a pass

}  // namespace

LoaderSpeed benchmark_loader(const data::Dataset& dataset, const data::TransformConfig& config,
                             int repeats) {
  check(repeats > 0, "benchmark: {} repeats", repeats);
  data::TransformConfig plain = config;
  plain.rand_augment.reset(), plain.color_jitter = plain.grayscale_prob = 0;
  data::Transform transform(config), without(plain);
  data::Image crop;
  std::vector<uint8_t> bytes, out(size_t(config.img_size.height * config.img_size.width) * 3);
  data::EpochOrder order(dataset, {.seed = 0});
  order.start(0);
  LoaderSpeed speed;

  int64_t made = 0;  // by the last pass
  const auto seconds_an_image = [&](int repeat, auto&& make) {
    made = 0;
    const double begin = thread_cpu_seconds();
    for (int64_t i = repeat * kImages; i < (repeat + 1) * kImages; ++i) {
      const int64_t sample = order.at(i % dataset.size()).sample, epoch = i / dataset.size();
      try {
        make(*dataset.open(sample, bytes), epoch, sample);
        ++made;
      } catch (const Error& e) {
        if (e.code() != ExitCode::data) throw;
      }
    }
    if (made == 0) fail(ExitCode::data, "benchmark: none of {} images can be read", kImages);
    return (thread_cpu_seconds() - begin) / double(made);
  };
  std::vector<double> reads, decodes, plains, wholes, resizes, augments;  // seconds an image
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const double to_header = seconds_an_image(repeat, [](auto&&...) {});
    const double to_crop = seconds_an_image(repeat, [&](data::Source& source, int64_t epoch,
                                                        int64_t sample) {
      Random random(0, Purpose::crop, uint64_t(epoch), uint64_t(sample));
      source.view(data::random_resized_crop(source.height(), source.width(), config, random), crop);
    });
    const double to_size =
        seconds_an_image(repeat, [&](data::Source& source, int64_t epoch, int64_t sample) {
          without.train(source, 0, epoch, sample, out.data());
        });
    const double to_end =
        seconds_an_image(repeat, [&](data::Source& source, int64_t epoch, int64_t sample) {
          transform.train(source, 0, epoch, sample, out.data());
        });
    reads.push_back(to_header), decodes.push_back(to_crop - to_header);
    resizes.push_back(to_size - to_crop), augments.push_back(to_end - to_size);
    plains.push_back(to_size), wholes.push_back(to_end);
    speed.images += made, speed.broken += kImages - made;
  }
  speed.read = median(reads), speed.decode = median(decodes);
  speed.resize = median(resizes), speed.augment = median(augments);
  speed.images_per_second = 1 / median(wholes), speed.without_augmentation = 1 / median(plains);
  const auto [fastest, slowest] = std::ranges::minmax(wholes);
  speed.fastest = 1 / fastest, speed.slowest = 1 / slowest;
  return speed;
}

std::vector<LoaderMemory> loader_memory(std::shared_ptr<const data::SampleMaker> maker,
                                        const data::LoaderConfig& config, int64_t batches) {
  data::Loader loader(std::move(maker), config);
  data::Batch batch;
  std::vector<LoaderMemory> samples;
  int64_t next = 1, epoch = 0;
  for (int64_t done = 0; done < batches;) {
    loader.start_epoch(epoch++);
    while (done < batches && loader.next(batch)) {
      if (++done == next || done == batches) samples.push_back({done, resident_memory()});
      if (done == next) next *= 10;
    }
  }
  return samples;
}

}  // namespace sg::benchmark
