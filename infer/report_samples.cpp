#include "infer/report_samples.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "autograd/tape.h"
#include "core/rng.h"
#include "data/png_write.h"
#include "report/significance_image.h"

namespace sg::train {
namespace {

// Indices in order of the dataset, the same every time.
std::vector<int64_t> choose(int64_t size, int count) {
  std::vector<int64_t> chosen;
  Random random(0, Purpose::order, uint64_t(size));
  for (int64_t i = 0, n = std::min<int64_t>(count, size); i < n; ++i)
    chosen.push_back(random.integer(size * i / n, size * (i + 1) / n - 1));
  return chosen;
}

double probability(const float* logits, int64_t classes, int64_t c) {
  const float most = *std::max_element(logits, logits + classes);
  double sum = 0;
  for (int64_t i = 0; i < classes; ++i) sum += std::exp(double(logits[i] - most));
  return std::exp(double(logits[c] - most)) / sum;
}

std::string class_name(const data::Dataset& dataset, int64_t c) {
  return c < dataset.num_classes() ? dataset.class_names()[size_t(c)] : fmt::format("class {}", c);
}

}  // namespace

std::vector<ReportSample> report_samples(const sgformer::Model& model, const data::Dataset& dataset,
                                         const Options& options, int count) {
  data::Transform transform(transforms(options));
  const int side = transform.config().img_size;
  std::vector<int64_t> indices;
  std::vector<data::Image> images;
  std::vector<uint8_t> buffer;
  for (const int64_t i : choose(dataset.size(), count)) {
    data::Image image;
    image.reset(side, side);
    try {
      transform.eval(*dataset.open(i, buffer), image.pixels.data());
    } catch (const Error&) {
      continue;  // evaluation has counted and named it
    }
    indices.push_back(i), images.push_back(std::move(image));
  }
  if (images.empty()) return {};

  const Tensor pixels = empty({int64_t(images.size()), side, side, 3}, Dtype::u8);
  for (size_t i = 0; i < images.size(); ++i)
    std::memcpy(pixels.slice(int64_t(i), int64_t(i) + 1).raw(), images[i].pixels.data(),
                images[i].pixels.size());
  const autograd::NoGrad no_grad;
  const nn::ParameterStore& parameters = model.parameters();
  sgformer::Output out = model.forward(
      normalize(pixels.to(parameters.device()), channel_stats(options), parameters.dtype()),
      {.significance = true});
  const Tensor host_logits = out.logits.to(Device{}).to(Dtype::f32);
  for (auto& s : out.significance) s.map = s.map.to(Device{});

  std::vector<ReportSample> samples;
  const int64_t classes = host_logits.dim(1);
  for (size_t i = 0; i < images.size(); ++i) {
    const float* logits = host_logits.data<float>() + int64_t(i) * classes;
    const int64_t best = std::max_element(logits, logits + classes) - logits;
    const auto png = data::encode_png(significance_panel(images[i], out.significance, int(i)));
    samples.push_back({.panel = std::string(png.begin(), png.end()),
                       .truth = class_name(dataset, dataset.label(indices[i])),
                       .prediction = class_name(dataset, best),
                       .probability = probability(logits, classes, best),
                       .correct = best == dataset.label(indices[i])});
  }
  return samples;
}

}  // namespace sg::train
