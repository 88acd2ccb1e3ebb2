#include "data/segmentation_transform.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "data/loader.h"
#include "tests/data/label_pngs.h"
#include "tests/support/log.h"

using namespace sg;
using namespace sg::data;
using test::contains;

namespace {

struct Sample {
  std::vector<uint8_t> image, label;
  std::array<int32_t, 2> valid;
  bool operator==(const Sample&) const = default;
};

Sample made(const SegmentationTransformConfig& c, const Image& image, const LabelImage& label,
            int64_t sample, int64_t epoch = 3, uint64_t seed = 5) {
  Sample s;
  s.image.assign(size_t(c.crop.height * c.crop.width * 3), 77);
  s.label.assign(size_t(c.crop.height * c.crop.width), 77);
  const auto source = open_pixels(image.pixels.data(), image.height, image.width, 3);
  SegmentationTransform(c).train(*source, label, seed, epoch, sample, s.image.data(),
                                 s.valid.data(), s.label.data());
  return s;
}

// The same step by step: the whole image resized, then cropped, flipped, distorted, padded.
Sample literal(const SegmentationTransformConfig& c, const Image& image, const LabelImage& label,
               int64_t sample, int64_t epoch = 3, uint64_t seed = 5) {
  Random draws(seed, Purpose::crop, uint64_t(epoch), uint64_t(sample));
  const double r = draws.uniform(c.ratio[0], c.ratio[1]);
  const double long_side = int(c.scale.long_side * r), short_side = int(c.scale.short_side * r);
  const double f = std::min(long_side / std::max(image.height, image.width),
                            short_side / std::min(image.height, image.width));
  const int height = int(image.height * f + 0.5), width = int(image.width * f + 0.5);
  Image resized;
  resized.reset(height, width);
  BilinearResizer()(image.view(), {height, width}, 3, resized.pixels.data());
  const auto class_at = [&](int y, int x) {
    const int row = std::min(int(y * (1 / (double(height) / label.height))), label.height - 1);
    const int column = std::min(int(x * (1 / (double(width) / label.width))), label.width - 1);
    return label.pixels[size_t(row * label.width + column)];
  };
  const int h = std::min(c.crop.height, height), w = std::min(c.crop.width, width);
  int top = 0, left = 0;
  for (int draw = 0; draw < 11; ++draw) {
    top = int(draws.integer(0, height - h)), left = int(draws.integer(0, width - w));
    std::array<int, 255> pixels{};
    int all = 0;
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x)
        if (const int k = class_at(top + y, left + x); k != 255) ++pixels[size_t(k)], ++all;
    const auto classes = std::ranges::count_if(pixels, [](int n) { return n > 0; });
    if (classes > 1 && *std::ranges::max_element(pixels) < c.max_class_share * all) break;
  }
  const bool flip =
      Random(seed, Purpose::flip, uint64_t(epoch), uint64_t(sample)).uniform() < c.hflip;
  Sample s{.image = std::vector<uint8_t>(size_t(c.crop.height * c.crop.width * 3), 0),
           .label = std::vector<uint8_t>(size_t(c.crop.height * c.crop.width), 255),
           .valid = {h, w}};
  Random colours(seed, Purpose::color_jitter, uint64_t(epoch), uint64_t(sample));
  const Photometric changes = draw_photometric(colours);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      const int from = left + (flip ? w - 1 - x : x);
      const size_t to = size_t(y * c.crop.width + x);
      s.label[to] = class_at(top + y, from);
      std::copy_n(resized.row(top + y) + from * 3, 3, s.image.begin() + long(to * 3));
      if (c.photometric) distort(std::span(s.image).subspan(to * 3, 3), changes);
    }
  return s;
}

// Bars of classes over a few columns each, with pixels of none.
LabelImage bars(int height, int width) {
  return test::labels_of(height, width, [](int y, int x) {
    return (x + y) % 13 == 0 ? uint8_t(255) : uint8_t(x / 9 % 4 + (y > 20));
  });
}

SegmentationTransformConfig small(ImageSize crop) { return {.crop = crop, .scale = {96, 40}}; }

}  // namespace

TEST_CASE("segmentation training: bit for bit the chain step by step") {
  for (const auto& [h, w] : {std::pair{40, 60}, {60, 40}, {37, 150}, {5, 7}})
    for (const ImageSize crop : {ImageSize{32, 32}, {24, 70}, {90, 90}})
      for (int64_t sample = 0; sample < 12; ++sample) {
        CAPTURE(h);
        CAPTURE(w);
        CAPTURE(crop.height);
        CAPTURE(crop.width);
        CAPTURE(sample);
        const Image image = test::scene(h, w);
        const LabelImage label = bars(h, w);
        SegmentationTransformConfig c = small(crop);
        c.photometric = sample % 2;
        CHECK(made(c, image, label, sample) == literal(c, image, label, sample));
      }
}

TEST_CASE("segmentation training: where no crop is varied, the last of eleven is taken") {
  const Image image = test::scene(40, 60);
  const LabelImage one = test::labels_of(40, 60, [](int, int) { return 3; });
  const LabelImage none = test::labels_of(40, 60, [](int, int) { return 255; });
  for (int64_t sample = 0; sample < 5; ++sample)
    for (const LabelImage* label : {&one, &none})
      CHECK(made(small(16), image, *label, sample) == literal(small(16), image, *label, sample));
}

TEST_CASE("segmentation training: draws depend on seed, epoch and sample alone") {
  const Image image = test::scene(40, 60);
  const LabelImage label = bars(40, 60);
  const Sample first = made(small(16), image, label, 1);
  CHECK(made(small(16), image, label, 1) == first);
  CHECK(made(small(16), image, label, 2) != first);
  CHECK(made(small(16), image, label, 1, 4) != first);
  CHECK(made(small(16), image, label, 1, 3, 6) != first);
}

TEST_CASE("segmentation training: which crops are varied") {
  using Labels = std::vector<uint8_t>;
  CHECK(is_varied(Labels{0, 0, 0, 1, 1}, 0.75));
  CHECK(!is_varied(Labels{0, 0, 0, 1}, 0.75));  // not less than 3 of 4
  CHECK(is_varied(Labels{0, 0, 0, 1}, 0.751));
  CHECK(!is_varied(Labels{4, 4, 4, 255, 255, 255}, 0.75));  // one class
  CHECK(!is_varied(Labels{0, 0, 0, 1, 255, 255}, 0.75));    // 255 counts nowhere
  CHECK(!is_varied(Labels{255}, 0.75));
  CHECK(is_varied(Labels{255}, 1));
}

TEST_CASE("segmentation training: places, flips and scales are drawn evenly") {
  constexpr int kSide = 60, kCrop = 16, kDraws = 4000;
  const Image image = test::scene(kSide, kSide);
  const LabelImage columns = test::labels_of(kSide, kSide, [](int, int x) { return uint8_t(x); });
  const LabelImage rows = test::labels_of(kSide, kSide, [](int y, int) { return uint8_t(y); });
  SegmentationTransformConfig c{.crop = kCrop, .scale = {kSide, kSide}, .ratio = {1, 1}};
  double left = 0, top = 0, flips = 0, side = 0;
  int least = kSide, most = 0, shortest = 1000, longest = 0;
  const SegmentationTransformConfig scaled{.crop = 2 * kSide, .scale = {kSide, kSide}};
  for (int64_t i = 0; i < kDraws; ++i) {
    const Sample s = made(c, image, columns, i);
    const int first = std::min(s.label[0], s.label[kCrop - 1]);
    left += first, flips += s.label[0] != first;
    least = std::min(least, first), most = std::max(most, first);
    top += made(c, image, rows, i).label[0];
    const Sample t = made(scaled, image, columns, i);
    CHECK(t.valid[0] == t.valid[1]);
    side += t.valid[0];
    shortest = std::min(shortest, t.valid[0]), longest = std::max(longest, t.valid[0]);
  }
  // Five standard errors.
  constexpr int kPlaces = kSide - kCrop + 1;
  const double of_place = 5 * std::sqrt((kPlaces * kPlaces - 1) / 12.0 / kDraws);
  CHECK(std::abs(left / kDraws - (kPlaces - 1) / 2.0) < of_place);
  CHECK(std::abs(top / kDraws - (kPlaces - 1) / 2.0) < of_place);
  CHECK(least == 0);
  CHECK(most == kSide - kCrop);
  CHECK(std::abs(flips / kDraws - 0.5) < 5 * std::sqrt(0.25 / kDraws));
  // int(60 r) of r in [0.5, 2): 30 to 119, evenly.
  CHECK(shortest == 30);
  CHECK(longest == 119);
  CHECK(std::abs(side / kDraws - 74.5) < 5 * std::sqrt((90 * 90 - 1) / 12.0 / kDraws));
}

TEST_CASE("segmentation evaluation: the ratio is kept, then the sides become multiples of 32") {
  const ImageScale scale;
  CHECK(scale.of({512, 683}) == ImageSize{512, 683});
  CHECK(scale.of({364, 500}) == ImageSize{512, 703});
  CHECK(scale.of({300, 2400}) == ImageSize{256, 2048});  // the long side ends it
  CHECK(scale.of({500, 364}) == ImageSize{703, 512});
  CHECK(scale.times(0.75).of({512, 683}) == ImageSize{384, 512});
  CHECK(scale.times(1.75).long_side == 3584);
  CHECK(ImageScale{64, 16}.of({1, 1000}) == ImageSize{1, 64});
  const Image image = test::scene(33, 47);
  const Image kept = resize_for_evaluation(image.view(), {128, 40}, 1);
  CHECK(kept.height == 40);
  CHECK(kept.width == 57);
  const Image aligned = resize_for_evaluation(image.view(), {128, 40}, 32);
  CHECK(aligned.height == 64);
  CHECK(aligned.width == 64);
  Image twice;  // of the image already resized, as mmsegmentation does it
  twice.reset(64, 64);
  BilinearResizer()(kept.view(), {64, 64}, 3, twice.pixels.data());
  CHECK(aligned.pixels == twice.pixels);
}

TEST_CASE("segmentation training: settings that cannot work are refused") {
  const auto refused = [](auto change) {
    SegmentationTransformConfig c;
    change(c);
    return test::error_of(ExitCode::usage, [&] { SegmentationTransform{c}; });
  };
  CHECK(contains(refused([](auto& c) { c.crop = 0; }), "--img-size"));
  CHECK(contains(refused([](auto& c) { c.ratio = {2, 1}; }), "--ratio-range"));
  CHECK(contains(refused([](auto& c) { c.hflip = 2; }), "--hflip"));
  CHECK(contains(refused([](auto& c) { c.max_class_share = 0; }), "--cat-max-ratio"));
  CHECK(contains(refused([](auto& c) { c.scale = {0, 0}; }), "--image-scale"));
}

namespace {

std::vector<std::vector<std::vector<uint8_t>>> batches(std::shared_ptr<const SegmentationDataset> d,
                                                       int workers, int64_t first = 0) {
  LoaderConfig config;
  config.batch_size = 2, config.workers = workers, config.max_broken_share = 0.5;
  Loader loader(std::make_shared<SegmentationSamples>(std::move(d), small({24, 32})), config);
  loader.start_epoch(1, first);
  std::vector<std::vector<std::vector<uint8_t>>> all;
  for (Batch batch; loader.next(batch);) {
    CHECK(batch.tensors[SegmentationSamples::kImages].shape() == Shape{2, 24, 32, 3});
    CHECK(batch.tensors[SegmentationSamples::kLabels].shape() == Shape{2, 24, 32});
    CHECK(to_vector<int32_t>(batch.tensors[SegmentationSamples::kValid]).size() == 4);
    all.push_back({to_vector<uint8_t>(batch.tensors[SegmentationSamples::kImages]),
                   to_vector<uint8_t>(batch.tensors[SegmentationSamples::kLabels])});
  }
  return all;
}

}  // namespace

TEST_CASE("segmentation training: batches are the same for any workers, and where resumed") {
  const test::Log log;
  const test::TemporaryFolder dir;
  test::put(dir / "classes.txt", "0\ta\n1\tb\n2\tc\n3\td\n4\te\n");
  for (int i = 0; i < 9; ++i)
    test::put_pair(dir.path(), "train", std::to_string(i), bars(30 + i, 50 - i), uint64_t(i));
  test::put(dir / "annotations/train/4.png", "damaged");
  const auto d = std::make_shared<SegmentationDataset>(dir.path().string(), Split::train,
                                                       SegmentationRequest{});
  const auto all = batches(d, 0);
  CHECK(all.size() == 4);
  CHECK(batches(d, 3) == all);
  CHECK(batches(d, 2, 2) == decltype(all){all[2], all[3]});

  // A value without a class is no broken sample: it ends the run at once.
  test::put(dir / "annotations/train/2.png",
            test::label_png(test::labels_of(32, 48, [](int, int) { return 9; })));
  const std::string error = test::error_of(ExitCode::data, [&] { batches(d, 2); });
  CHECK(contains(error, "2.png: value 9 at row 0, column 0"));
}
