// The prefetcher on streams that run late.
#include "data/device_prefetcher.h"

#include <doctest/doctest.h>

#include <algorithm>

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

}  // namespace

TEST_CASE("feed: its memory goes back when the copies that use it have been made") {
  const auto bars = samples_of(std::make_shared<Bars>(7));
  data::LoaderConfig config;
  config.batch_size = 3, config.workers = 1, config.training = false;
  delay_cuda_work(false, true);
  for (const bool dropped : {false, true}) {
    Allocator::of(kCuda).release_cached();
    {
      data::DevicePrefetcher feed(bars, config, kCuda);
      feed.start_epoch(0), feed.prefetch();
      if (dropped) feed.start_epoch(1), feed.prefetch();
    }
    std::vector<Tensor> next;  // in the memory of the feed
    for (int i = 0; i < 3; ++i) {
      next.push_back(zeros({3, kBarSide, kBarSide, 3}, Dtype::u8, kCuda));
      next.push_back(zeros({3}, Dtype::i32, kCuda));
    }
    Backend& b = backend(kCuda.type);
    b.synchronize(b.stream(kCuda, StreamRole::copy));
    for (const Tensor& t : next) {
      const auto values = to_vector<int32_t>(t);
      CHECK(std::ranges::all_of(values, [](int32_t v) { return v == 0; }));
    }
  }
  delay_cuda_work(false, false);
}
