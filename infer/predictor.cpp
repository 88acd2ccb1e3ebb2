#include "infer/predictor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include "autograd/tape.h"

namespace sg::infer {

// In double, since logits of f32 may lie far apart.
std::vector<double> softmax(std::span<const float> logits) {
  const double most = *std::ranges::max_element(logits);
  std::vector<double> p(logits.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp(double(logits[i]) - most);
  if (!std::isfinite(sum))
    fail(ExitCode::nonfinite, "the model's output is not finite; its weights are damaged");
  for (double& v : p) v /= sum;
  return p;
}

std::vector<Tensor> last_maps(const std::vector<sgformer::SignificanceMap>& significance) {
  std::map<int, Tensor> last;  // by stage
  for (const auto& s : significance) last[s.stage] = s.map;
  std::vector<Tensor> maps;
  for (const auto& [stage, map] : last) maps.push_back(map.to(Device{}).to(Dtype::f32));
  return maps;
}

std::vector<ClassProbability> top_classes(const Prediction& prediction, int64_t count) {
  const std::vector<double>& p = prediction.probabilities;
  std::vector<int64_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order,
                           [&](int64_t a, int64_t b) { return p[size_t(a)] > p[size_t(b)]; });
  order.resize(size_t(std::min(count, int64_t(order.size()))));
  std::vector<ClassProbability> top;
  for (const int64_t i : order) top.push_back({i, p[size_t(i)]});
  return top;
}

Predictor::Predictor(const sgformer::Classifier& model, Preprocessing preprocessing)
    : model_(model), preprocessing_(std::move(preprocessing)) {}

std::vector<Prediction> Predictor::operator()(std::span<const data::Image> images,
                                              bool significance) const {
  if (images.empty()) return {};
  const autograd::NoGrad no_grad;
  const nn::ParameterStore& parameters = model_.parameters();
  const auto n = int64_t(images.size());
  Tensor pixels = empty({n, images[0].height, images[0].width, 3}, Dtype::u8);
  for (int64_t i = 0; i < n; ++i) {
    const std::vector<uint8_t>& from = images[size_t(i)].pixels;
    check(int64_t(from.size()) * n == pixels.numel(), "predict: images of several sizes");
    std::memcpy(pixels.slice(i, i + 1).raw(), from.data(), from.size());
  }
  auto out = model_.forward(
      normalize_images(pixels.to(parameters.device()), preprocessing_.stats, parameters.dtype()),
      {.significance = significance});
  const Tensor logits = out.logits.to(Device{}).to(Dtype::f32);
  const std::vector<Tensor> last = last_maps(out.significance);

  std::vector<Prediction> predictions(images.size());
  const int64_t classes = logits.dim(1);
  for (int64_t i = 0; i < n; ++i) {
    Prediction& p = predictions[size_t(i)];
    p.probabilities = softmax({logits.data<float>() + i * classes, size_t(classes)});
    for (const Tensor& maps : last)
      p.significance.push_back(maps.slice(i, i + 1).view({maps.dim(1), maps.dim(2)}));
  }
  return predictions;
}

}  // namespace sg::infer
