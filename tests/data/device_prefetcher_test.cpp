#include "data/device_prefetcher.h"

#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "data/labelled_images.h"
#include "tests/support/bars_dataset.h"
#include "tests/support/faults.h"
#include "tests/support/skip.h"

using namespace sg;
using namespace sg::test;

namespace {

std::shared_ptr<const data::SampleMaker> samples_of(std::shared_ptr<const Bars> bars) {
  return std::make_shared<data::LabelledImages>(std::move(bars),
                                                data::TransformConfig{.img_size = kBarSide});
}

data::LoaderConfig config_of(int batch) {
  data::LoaderConfig c;
  c.batch_size = batch, c.workers = 1, c.training = false;
  return c;
}

// Two whole batches and a short one, so that each epoch begins with the other upload.
void compare_with_cpu() {
  const auto bars = samples_of(std::make_shared<Bars>(7));
  data::DevicePrefetcher feed(bars, config_of(3), kCuda), expected(bars, config_of(3), {});
  const auto images_of = [](const auto& f) { return f.tensors()[data::LabelledImages::kImages]; };
  const auto labels_of = [](const auto& f) { return f.tensors()[data::LabelledImages::kLabels]; };
  const void *images = nullptr, *labels = nullptr;
  for (int epoch = 0; epoch < 4; ++epoch) {
    feed.start_epoch(epoch), expected.start_epoch(epoch);
    std::vector<Tensor> seen;  // as a step would use them: later, on the device
    while (expected.next()) {
      REQUIRE(feed.next());
      feed.prefetch();
      if (!images) images = images_of(feed).raw(), labels = labels_of(feed).raw();
      CHECK(images_of(feed).raw() == images);
      CHECK(labels_of(feed).raw() == labels);
      CHECK(to_vector<int32_t>(feed.host_tensors()[data::LabelledImages::kLabels]) ==
            to_vector<int32_t>(labels_of(expected)));
      seen.push_back(images_of(feed).clone()), seen.push_back(images_of(expected).clone());
      seen.push_back(labels_of(feed).clone()), seen.push_back(labels_of(expected).clone());
    }
    CHECK_FALSE(feed.next());
    for (size_t i = 0; i < seen.size(); i += 2)
      CHECK(to_vector<int32_t>(seen[i]) == to_vector<int32_t>(seen[i + 1]));
    feed.start_epoch(epoch, 1), feed.next(), feed.prefetch();  // an epoch that is given up
  }
}

}  // namespace

namespace {

struct SlowBars : Bars {
  using Bars::Bars;
  std::unique_ptr<data::Source> open(int64_t i, std::vector<uint8_t>& bytes) const override {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return Bars::open(i, bytes);
  }
};

}  // namespace

TEST_CASE("feed: what the device waits for a slow loader counts, also where prefetch() waited") {
  if (!have_cuda()) return;
  for (const bool prefetched : {false, true}) {
    CAPTURE(prefetched);
    data::DevicePrefetcher feed(samples_of(std::make_shared<SlowBars>(9)), config_of(3), kCuda);
    feed.start_epoch(0);
    for (int batch = 0; batch < 3; ++batch) {
      if (prefetched) feed.prefetch();  // behind no work: the device idles at once
      const double before = feed.waited();
      REQUIRE(feed.next());
      if (cuda_is_emulated && !delay_cuda_work)  // the other stand-in has no clock
        CHECK(feed.waited() - before > 0.05);    // three images of 20 ms, one worker
    }
  }
  // A loader that is ahead.
  data::DevicePrefetcher feed(samples_of(std::make_shared<Bars>(3)), config_of(3), kCuda);
  feed.start_epoch(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  feed.prefetch();
  REQUIRE(feed.next());
  if (!delay_cuda_work) CHECK(feed.waited() < 0.1);
}

TEST_CASE("feed: on cuda, the batches of the CPU, always in the same memory") {
  if (!have_cuda()) return;
  compare_with_cpu();
  if (!delay_cuda_work) return;
  for (const auto& [computing, copying] : {std::pair{true, false}, {false, true}, {true, true}}) {
    delay_cuda_work(computing, copying);
    compare_with_cpu();
  }
  delay_cuda_work(false, false);
}
