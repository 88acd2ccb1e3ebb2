#include "infer/segmenter.h"

#include <cmath>
#include <cstring>

#include "autograd/tape.h"
#include "core/allocator.h"
#include "ops/bilinear_resize/bilinear_resize.h"
#include "ops/resized_labels/resized_labels.h"
#include "tests/support/op_case.h"
#include "tests/support/scenes.h"

using namespace sg;
using infer::Segmenter, infer::SegmenterSettings, infer::SlidingWindows;

namespace {

std::unique_ptr<sgformer::Segmentor> nano(const char* head = "semantic_fpn", int64_t classes = 5,
                                          Device device = {}) {
  auto model = std::make_unique<sgformer::Segmentor>(
      sgformer::find_segmentor_config("sgformer_nano", head, classes));
  model->parameters().allocate(Dtype::f32, device);
  model->parameters().initialize(3);
  // Larger weights than initial ones, so that classes differ.
  for (const std::string& name : model->parameters().names())
    if (name.find("conv_seg.weight") != name.npos) {
      Tensor w = model->parameters().get(model->parameters().values(), name);
      for (float& v : w.span<float>()) v *= 50;
      model->parameters().set(model->parameters().values(), name, w);
    }
  return model;
}

data::Image image(int height, int width, uint64_t seed = 1) {
  return test::draw_scene(height, width, seed).image;
}

data::Image mirrored(const data::Image& image) {
  data::Image out = image;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      std::copy_n(image.row(y) + (image.width - 1 - x) * 3, 3, out.row(y) + x * 3);
  return out;
}

// Logits (1, h, w, K) of an image as it is.
Tensor logits_of(const sgformer::Segmentor& model, const data::Image& image) {
  const autograd::NoGrad no_grad;
  Tensor pixels = empty({1, image.height, image.width, 3}, Dtype::u8);
  std::memcpy(pixels.raw(), image.pixels.data(), image.pixels.size());
  return model.forward(normalize_images(pixels, {})).logits;
}

std::vector<uint8_t> labels_of(const Segmenter& segment, const data::Image& image) {
  return to_vector<uint8_t>(segment(segment.views(image)).labels);
}

double agreement(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  REQUIRE(a.size() == b.size());
  int64_t equal = 0;
  for (size_t i = 0; i < a.size(); ++i) equal += a[i] == b[i];
  return double(equal) / double(a.size());
}

// Of (rows, K): the first of the largest.
std::vector<uint8_t> argmax_of(const std::vector<double>& values, int64_t k) {
  std::vector<uint8_t> labels;
  for (size_t i = 0; i < values.size(); i += size_t(k))
    labels.push_back(
        uint8_t(std::max_element(values.begin() + int64_t(i), values.begin() + int64_t(i) + k) -
                values.begin() - int64_t(i)));
  return labels;
}

}  // namespace

TEST_CASE("segmenter: an image is resized into the scale, its labels have its own size") {
  const auto model = nano();
  const Segmenter align(*model, {.scale = {128, 64}});
  const Segmenter keep(*model, {.scale = {128, 64}, .align = 1});
  const data::Image wide = image(50, 90);
  CHECK(keep.views(wide).seen[0].height == 64);
  CHECK(keep.views(wide).seen[0].width == 115);
  CHECK(align.views(wide).seen[0].height == 64);
  CHECK(align.views(wide).seen[0].width == 128);
  for (const auto& [h, w] : {std::pair(50, 90), {1, 1}, {3, 200}, {37, 100}}) {
    const data::Image some = h < 12 ? image(12, std::max(w, 12)) : image(h, w);
    data::Image cut;
    cut.reset(h, w);
    for (int y = 0; y < h; ++y) std::copy_n(some.row(y), w * 3, cut.row(y));
    for (const Segmenter* segment : {&align, &keep})
      CHECK((*segment)(segment->views(cut)).labels.shape() == Shape{h, w});
  }
}

TEST_CASE("segmenter: logits are resized to what the network saw, and again to the image") {
  for (const char* head : {"semantic_fpn", "upernet"}) {
    const auto model = nano(head);
    const Segmenter segment(*model, {.scale = {80, 48}, .align = 1});
    const data::Image from = image(60, 75);
    const auto views = segment.views(from);
    const Tensor logits = logits_of(*model, views.seen[0]);
    const Tensor seen = bilinear_resize(logits, views.seen[0].height, views.seen[0].width);
    const auto expected = argmax_of(to_vector<double>(bilinear_resize(seen, 60, 75)), 5);
    const auto found = labels_of(segment, from);
    CHECK(agreement(found, expected) > 0.999);  // but for ties within rounding
    CHECK(agreement(found, std::vector<uint8_t>(found.size(), found[0])) < 0.99);  // not all alike
  }
}

TEST_CASE("segmenter: windows as mmsegmentation places them") {
  CHECK(infer::windows_of({64, 64}, {64, 32}) == std::vector<Box>{{0, 0, 64, 64}});
  CHECK(infer::windows_of({40, 100}, {64, 32}) ==
        std::vector<Box>{{0, 0, 64, 40}, {32, 0, 64, 40}, {36, 0, 64, 40}});
  CHECK(infer::windows_of({65, 64}, {64, 40}) == std::vector<Box>{{0, 0, 64, 64}, {0, 1, 64, 64}});
  // slide_inference, word by word.
  for (int h = 1; h < 90; h += 7)
    for (int w = 1; w < 90; w += 5)
      for (const int crop : {16, 33})
        for (const int stride : {9, 16}) {
          std::vector<Box> expected;
          const int rows = std::max(h - crop + stride - 1, 0) / stride + 1;
          const int columns = std::max(w - crop + stride - 1, 0) / stride + 1;
          for (int i = 0; i < rows; ++i)
            for (int j = 0; j < columns; ++j) {
              const int y2 = std::min(i * stride + crop, h), x2 = std::min(j * stride + crop, w);
              const int y1 = std::max(y2 - crop, 0), x1 = std::max(x2 - crop, 0);
              expected.push_back({x1, y1, x2 - x1, y2 - y1});
            }
          CHECK(infer::windows_of({h, w}, {crop, stride}) == expected);
        }
}

TEST_CASE("segmenter: logits of windows are averaged where they overlap") {
  const auto model = nano();
  const SlidingWindows windows{32, 20};
  const Segmenter segment(*model, {.scale = {96, 48}, .align = 1, .slide = windows});
  const data::Image from = image(48, 70);  // seen as it is
  const auto views = segment.views(from);
  REQUIRE(views.seen[0].pixels == from.pixels);
  std::vector<double> sum(48 * 70 * 5), count(48 * 70);
  for (const Box& box : infer::windows_of({48, 70}, windows)) {
    data::Image crop;
    crop.reset(box.height, box.width);
    for (int y = 0; y < box.height; ++y)
      std::copy_n(from.row(box.top + y) + box.left * 3, box.width * 3, crop.row(y));
    const auto logits =
        to_vector<double>(bilinear_resize(logits_of(*model, crop), box.height, box.width));
    for (int y = 0; y < box.height; ++y)
      for (int x = 0; x < box.width; ++x) {
        const size_t at = size_t((box.top + y) * 70 + box.left + x);
        ++count[at];
        for (size_t k = 0; k < 5; ++k) sum[at * 5 + k] += logits[size_t(y * box.width + x) * 5 + k];
      }
  }
  for (size_t i = 0; i < sum.size(); ++i) sum[i] /= count[i / 5];
  CHECK(agreement(labels_of(segment, from), argmax_of(sum, 5)) > 0.999);
  // One window that is as large as the image is the whole image.
  const Segmenter one(*model, {.scale = {96, 48}, .align = 1, .slide = SlidingWindows{128, 64}});
  const Segmenter whole(*model, {.scale = {96, 48}, .align = 1});
  CHECK(agreement(labels_of(one, from), labels_of(whole, from)) > 0.999);
}

TEST_CASE("segmenter: several scales and flips are an average of probabilities") {
  const auto model = nano();
  for (const auto& slide : {std::optional<SlidingWindows>(), {SlidingWindows{32, 24}}}) {
    const SegmenterSettings single{.scale = {60, 40}, .align = 32, .slide = slide};
    SegmenterSettings several = single;
    several.ratios = {0.75, 1.5}, several.flip = true;
    const data::Image from = image(45, 62);
    std::vector<double> sum(45 * 62 * 5);
    for (const data::Image& seen : Segmenter(*model, several).views(from).seen)
      for (const bool flip : {false, true}) {
        if (slide) continue;  // their logits are those of the test above
        const Tensor logits = logits_of(*model, flip ? mirrored(seen) : seen);
        const auto values = to_vector<double>(
            bilinear_resize(bilinear_resize(logits, seen.height, seen.width), 45, 62));
        for (int y = 0; y < 45; ++y)
          for (int x = 0; x < 62; ++x) {
            const double* row = values.data() + (y * 62 + (flip ? 61 - x : x)) * 5;
            double norm = 0;
            for (int k = 0; k < 5; ++k) norm += std::exp(row[k]);
            for (int k = 0; k < 5; ++k)
              sum[size_t((y * 62 + x) * 5 + k)] += std::exp(row[k]) / norm;
          }
      }
    const Segmenter segment(*model, several);
    CHECK(segment.views(from).seen.size() == 2);
    const auto found = labels_of(segment, from);
    if (!slide) CHECK(agreement(found, argmax_of(sum, 5)) > 0.999);
    // With flips, a mirrored image has mirrored labels.
    const auto flipped = labels_of(segment, mirrored(from));
    std::vector<uint8_t> back(flipped.size());
    for (int y = 0; y < 45; ++y)
      for (int x = 0; x < 62; ++x) back[size_t(y * 62 + x)] = flipped[size_t(y * 62 + 61 - x)];
    CHECK(agreement(found, back) > 0.99);
  }
}

TEST_CASE("segmenter: the loss is the cross entropy of the labelled pixels") {
  const auto model = nano();
  const data::Image from = image(45, 62);
  data::LabelImage truth;
  truth.reset(45, 62);
  for (size_t i = 0; i < truth.pixels.size(); ++i)
    truth.pixels[i] = i % 7 == 0 ? data::kIgnoredLabel : uint8_t(i / 300 % 5);
  // Of scores (H * W, 5) whose softmax, or which itself, is the probability.
  const auto loss_of = [&](const std::vector<double>& scores, bool logits) {
    double loss = 0;
    for (size_t i = 0; i < truth.pixels.size(); ++i) {
      if (truth.pixels[i] == data::kIgnoredLabel) continue;
      double sum = 0;
      const auto value = [&](size_t k) {
        return logits ? std::exp(scores[i * 5 + k]) : scores[i * 5 + k];
      };
      for (size_t k = 0; k < 5; ++k) sum += value(k);
      loss -= std::log(value(truth.pixels[i]) / sum);
    }
    return loss;
  };
  const Segmenter single(*model, {.scale = {60, 40}, .align = 1});
  const auto views = single.views(from);
  const auto whole = to_vector<double>(bilinear_resize(logits_of(*model, views.seen[0]), 45, 62));
  const Segmenter::Labels found = single(views, false, &truth);
  CHECK(found.loss == doctest::Approx(loss_of(whole, true)).epsilon(1e-5));
  CHECK(single(views).loss == 0);
  CHECK(to_vector<uint8_t>(single(views).labels) == to_vector<uint8_t>(found.labels));

  SegmenterSettings several = single.settings();
  several.ratios = {0.75, 1.5}, several.flip = true;
  std::vector<double> sum(45 * 62 * 5);
  for (const data::Image& seen : Segmenter(*model, several).views(from).seen)
    for (const bool flip : {false, true}) {
      const Tensor logits = logits_of(*model, flip ? mirrored(seen) : seen);
      Tensor part = zeros({45, 62, 5});
      add_resized_softmax(logits, ImageSize(seen.height, seen.width), flip, part);
      const auto values = to_vector<double>(part);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    }
  const Segmenter ensemble(*model, several);
  CHECK(ensemble(ensemble.views(from), false, &truth).loss ==
        doctest::Approx(loss_of(sum, false)).epsilon(1e-5));
  SegmenterSettings slide = single.settings();
  slide.slide = SlidingWindows{128, 64};  // one window, the whole image
  const Segmenter window(*model, slide);
  CHECK(window(window.views(from), false, &truth).loss ==
        doctest::Approx(found.loss).epsilon(0.02));
  truth.reset(45, 61);
  test::error_of(ExitCode::failure, [&] { single(views, false, &truth); });
}

// A quarter of the published scale in each direction, so that it takes seconds; all bounds grow
// with the pixels.
TEST_CASE("segmenter: memory beyond the network's forward pass is what the header says") {
  const int64_t classes = 150;
  const auto model = nano("semantic_fpn", classes);
  const SegmenterSettings single{.scale = {512, 128}};
  const data::Image from = image(64, 256);
  const auto peak = [&](const auto& work) {
    Allocator& allocator = Allocator::of({});
    allocator.release_cached();
    const size_t before = allocator.stats().in_use;
    allocator.reset_peak();
    work();
    return double(allocator.stats().peak - before);
  };
  const auto peak_of = [&](const SegmenterSettings& settings) {
    const Segmenter segment(*model, settings);
    const auto views = segment.views(from);
    data::LabelImage truth;
    truth.reset(from.height, from.width);
    return peak([&] { segment(views, false, &truth); });
  };
  const auto views = Segmenter(*model, single).views(from);
  REQUIRE(views.seen[0].width == 512);
  const double forward = peak([&] { logits_of(*model, views.seen[0]); });
  const double seen = 512.0 * 128 * 4 * classes, of_image = 256.0 * 64 * 4 * classes;
  const double window = 128.0 * 128 * 4 * classes, slack = 4e6;
  const double of_whole = peak_of(single);
  CHECK(of_whole <= forward + seen / 16 + slack);
  CHECK(of_whole < seen);  // one map of logits at that size
  SegmenterSettings several = single;
  several.ratios = {0.5, 1}, several.flip = true;
  CHECK(peak_of(several) <= forward + seen / 16 + of_image + slack);
  SegmenterSettings slide = single;
  slide.slide = SlidingWindows{128, 128};
  CHECK(peak_of(slide) <= forward / 4 + seen + window + slack);
}

TEST_CASE("segmenter: the same labels on every device") {
  const auto model = nano();
  const data::Image from = image(40, 52);
  for (const Device device : test::devices()) {
    const auto there = nano("semantic_fpn", 5, device);
    for (const SegmenterSettings& s :
         {SegmenterSettings{.scale = {64, 32}},
          SegmenterSettings{.scale = {64, 32}, .slide = SlidingWindows{32, 16}},
          SegmenterSettings{.scale = {64, 32}, .ratios = {1, 1.5}, .flip = true}})
      CHECK(agreement(labels_of(Segmenter(*there, s), from),
                      labels_of(Segmenter(*model, s), from)) > 0.99);
  }
}

TEST_CASE("segmenter: significance of the whole image; damaged weights; settings that cannot be") {
  const auto model = nano();
  const Segmenter segment(*model, {.scale = {64, 64}});
  const auto result = segment(segment.views(image(64, 64)), true);
  CHECK(!result.significance.empty());
  CHECK(result.significance[0].dims() == 2);
  CHECK(segment(segment.views(image(64, 64))).significance.empty());
  for (const SegmenterSettings& wrong :
       {SegmenterSettings{.scale = {0, 5}}, SegmenterSettings{.slide = SlidingWindows{32, 33}},
        SegmenterSettings{.slide = SlidingWindows{32, 0}}, SegmenterSettings{.ratios = {}},
        SegmenterSettings{.ratios = {1, 0}}})
    test::error_of(ExitCode::usage, [&] { Segmenter(*model, wrong); });
  CHECK(infer::describe(segment.settings()) ==
        "resized into (64, 64) and to multiples of 32 (AlignResize)");
  model->parameters().values().fill_(NAN);
  test::error_of(ExitCode::nonfinite, [&] { segment(segment.views(image(64, 64))); });
}
