#include "infer/segmenter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/tape.h"
#include "infer/predictor.h"
#include "ops/bilinear_resize/bilinear_resize.h"
#include "ops/divide_rows/divide_rows.h"
#include "ops/pixel_cross_entropy/pixel_cross_entropy.h"
#include "ops/resized_labels/resized_labels.h"
#include "ops/slice/slice.h"

namespace sg::infer {
namespace {

// Pixels as the network takes them, (1, H, W, 3) u8 on the CPU.
Tensor pixels_of(const data::ImageView& view, bool mirrored) {
  Tensor pixels = empty({1, view.height, view.width, 3}, Dtype::u8);
  uint8_t* to = pixels.data<uint8_t>();
  for (int y = 0; y < view.height; ++y)
    for (int x = 0; x < view.width; ++x, to += 3)
      std::copy_n(view.row(y) + size_t(mirrored ? view.width - 1 - x : x) * 3, 3, to);
  return pixels;
}

// Where the windows of one axis begin.
std::vector<int> begins_of(int side, int crop, int stride) {
  std::vector<int> begins;
  const int count = std::max(side - crop + stride - 1, 0) / stride + 1;
  for (int i = 0; i < count; ++i)
    begins.push_back(std::max(std::min(i * stride + crop, side) - crop, 0));
  return begins;
}

// Damaged weights make all logits NaN: a row of them tells.
void check_finite(const Tensor& logits) {
  const int64_t c = logits.dim(3);
  const Tensor rows = logits.view({logits.numel() / c, c});
  for (const float v : to_vector<float>(rows.slice(0, logits.dim(2))))
    if (!std::isfinite(v))
      fail(ExitCode::nonfinite, "the model's output is not finite; its weights are damaged");
}

Tensor tensor_of(const data::LabelImage& labels, Device device) {
  Tensor t = empty({labels.height, labels.width}, Dtype::u8);
  std::ranges::copy(labels.pixels, t.data<uint8_t>());
  return t.to(device);
}

// The sum over the labelled pixels of the cross entropy.
double loss_of_logits(const Tensor& logits, const Tensor& truth) {
  const Tensor mean =
      pixel_cross_entropy(logits, truth.view({1, truth.dim(0), truth.dim(1)}), data::kIgnoredLabel);
  return mean.item() * double(truth.numel());
}
// The same of the probabilities that `views` of an image have in sum. One that is too small for
// its type counts as the smallest.
double loss_of_sum(const Tensor& probabilities, const Tensor& truth, double views) {
  const Tensor labels = truth.to(Device{});
  double loss = 0;
  const std::vector<double> found = to_vector<double>(scores_of(probabilities, truth));
  for (size_t i = 0; i < found.size(); ++i)
    if (labels.span<uint8_t>()[i] != data::kIgnoredLabel)
      loss -= std::log(std::max(found[i] / views, double(std::numeric_limits<float>::min())));
  return loss;
}

}  // namespace

void SegmenterSettings::check() const {
  const auto require = [](bool holds, const char* flag, const char* expected, const auto& found) {
    if (!holds) fail(ExitCode::usage, "--{}: expected {}, found {}", flag, expected, found);
  };
  require(scale.long_side > 0 && scale.short_side > 0, "image-scale", "sides above 0",
          fmt::format("{}, {}", scale.long_side, scale.short_side));
  require(!ratios.empty() && std::ranges::all_of(ratios, [](double r) { return r > 0; }), "ratios",
          "numbers above 0", fmt::format("{}", fmt::join(ratios, ", ")));
  if (!slide) return;
  require(slide->crop > 0, "slide", "a crop above 0", slide->crop);
  require(slide->stride > 0 && slide->stride <= slide->crop, "slide",
          "a stride from 1 to the crop, so that no pixel is left out", slide->stride);
}

std::string describe(const SegmenterSettings& s) {
  std::string text =
      fmt::format("resized into ({}, {}){}", s.scale.long_side, s.scale.short_side,
                  s.align > 1 ? fmt::format(" and to multiples of {} (AlignResize)", s.align)
                              : ", the ratio kept");
  if (s.slide)
    text += fmt::format(", windows of {} every {} pixels", s.slide->crop, s.slide->stride);
  if (s.ratios.size() > 1) text += fmt::format(", {} ratios", s.ratios.size());
  if (s.flip) text += ", flipped too";
  return text;
}

std::vector<Box> windows_of(ImageSize map, const SlidingWindows& windows) {
  std::vector<Box> boxes;
  for (const int top : begins_of(map.height, windows.crop, windows.stride))
    for (const int left : begins_of(map.width, windows.crop, windows.stride))
      boxes.push_back(
          {left, top, std::min(windows.crop, map.width), std::min(windows.crop, map.height)});
  return boxes;
}

Segmenter::Segmenter(const sgformer::Segmentor& model, SegmenterSettings settings)
    : model_(model), settings_(std::move(settings)) {
  settings_.check();
}

Segmenter::Views Segmenter::views(const data::Image& image) const {
  Views views{{image.height, image.width}, {}};
  for (const double ratio : settings_.ratios)
    views.seen.push_back(
        data::resize_for_evaluation(image.view(), settings_.scale.times(ratio), settings_.align));
  return views;
}

sgformer::Segmentor::Output Segmenter::forward(const data::ImageView& view, bool mirrored,
                                               bool significance) const {
  const nn::ParameterStore& parameters = model_.parameters();
  auto out = model_.forward(normalize_images(pixels_of(view, mirrored).to(parameters.device()),
                                             settings_.stats, parameters.dtype()),
                            {.significance = significance});
  check_finite(out.logits);
  return out;
}

// (1, H, W, K) at the size that was seen. Sums are those of whole rows of windows, in their order.
Tensor Segmenter::logits_of_windows(const data::Image& seen, bool mirrored) const {
  const int64_t h = seen.height, w = seen.width, k = model_.config().classes;
  const Dtype dtype = acc_dtype(model_.parameters().dtype());
  const Device device = model_.parameters().device();
  Tensor sum = zeros({h, w, k}, dtype, device), counts = zeros({h, w}, Dtype::f32);
  for (const Box& box : windows_of({seen.height, seen.width}, *settings_.slide)) {
    // The windows of the mirrored image, from the image itself.
    Box of_image = box;
    if (mirrored) of_image.left = seen.width - box.right();
    const Tensor logits =
        bilinear_resize(forward(seen.view().crop(of_image), mirrored, false).logits.to(dtype),
                        box.height, box.width);
    add_window(sum, logits.view({box.height, box.width, k}), box.top, box.left);
    for (int y = box.top; y < box.bottom(); ++y)
      for (int x = box.left; x < box.right(); ++x) ++counts.data<float>()[y * w + x];
  }
  Tensor rows = sum.view({h * w, k});
  divide_rows(rows, counts.view({h * w}).to(dtype).to(device));
  return sum.view({1, h, w, k});
}

Segmenter::Labels Segmenter::operator()(const Views& views, bool significance,
                                        const data::LabelImage* truth) const {
  check(!significance || !settings_.slide, "segmenter: sliding windows have no significance maps");
  const autograd::NoGrad no_grad;
  const ImageSize image = views.image;
  const bool single = views.seen.size() == 1 && !settings_.flip;
  Labels result;
  Tensor true_labels;
  if (truth) {
    check(truth->height == image.height && truth->width == image.width,
          "segmenter: labels of {} x {} pixels for an image of {} x {}", truth->height,
          truth->width, image.height, image.width);
    true_labels = tensor_of(*truth, model_.parameters().device());
  }
  Tensor probabilities;  // the sum over the views
  if (!single)
    probabilities = zeros({image.height, image.width, model_.config().classes},
                          acc_dtype(model_.parameters().dtype()), model_.parameters().device());
  for (size_t i = 0; i < views.seen.size(); ++i)
    for (const bool mirrored : {false, true}) {
      if (mirrored && !settings_.flip) continue;
      const data::Image& seen = views.seen[i];
      const ImageSize size(seen.height, seen.width);
      Tensor logits;
      if (settings_.slide) {
        logits = logits_of_windows(seen, mirrored);
      } else {
        const bool wanted = significance && i == 0 && !mirrored;
        auto out = forward(seen.view(), mirrored, wanted);
        logits = out.logits;
        if (wanted)
          for (const Tensor& map : last_maps(out.significance))
            result.significance.push_back(map.view({map.dim(1), map.dim(2)}));
      }
      if (single) {
        result.labels = resized_argmax(logits, size, image);
        if (truth) result.loss = loss_of_logits(logits, true_labels);
      } else {
        add_resized_softmax(logits, size, mirrored, probabilities);
      }
    }
  if (!single) {
    result.labels = argmax(probabilities);
    const double count = double(views.seen.size()) * (settings_.flip ? 2 : 1);
    if (truth) result.loss = loss_of_sum(probabilities, true_labels, count);
  }
  result.labels = result.labels.view({image.height, image.width}).to(Device{});
  return result;
}

}  // namespace sg::infer
