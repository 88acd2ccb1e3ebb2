#include "infer/dataset_predictor.h"

#include "autograd/tape.h"

namespace sg::infer {
namespace {

data::LoaderConfig loader_config(const DatasetPredictorSettings& s) {
  data::LoaderConfig c;
  c.training = false;
  c.batch_size = int(s.batch_size), c.workers = int(s.workers);
  c.max_broken_share = s.max_broken_share;
  c.rank = s.rank, c.ranks = s.ranks;
  return c;
}

}  // namespace

DatasetPredictor::DatasetPredictor(const sgformer::Classifier& model,
                                   std::shared_ptr<const data::Dataset> dataset,
                                   Preprocessing preprocessing,
                                   const DatasetPredictorSettings& settings)
    : model_(model),
      stats_(preprocessing.stats),
      with_significance_(settings.significance),
      feed_(std::make_shared<data::LabelledImages>(std::move(dataset), preprocessing.transform),
            loader_config(settings), model.parameters().device()),
      forward_(model.parameters().device(), !settings.eager),
      on_device_(empty({settings.batch_size, model.config().classes}, Dtype::f32,
                       model.parameters().device())) {}

bool DatasetPredictor::next() {
  const autograd::NoGrad no_grad;
  if (!feed_.next()) return false;
  const nn::ParameterStore& parameters = model_.parameters();
  const int64_t n = int64_t(indices().size());
  Tensor logits = on_device_.slice(0, n);
  const auto forward = [&] {
    auto out = model_.forward(normalize_images(feed_.tensors()[data::LabelledImages::kImages],
                                               stats_, parameters.dtype()),
                              {.significance = with_significance_});
    logits.copy_(out.logits);
    return out;
  };
  // A record is of one shape, and of the weights or the averaged ones; it leaves no maps behind.
  if (with_significance_)
    significance_ = last_maps(forward().significance);
  else
    forward_.run({uint64_t(n), uint64_t(uintptr_t(parameters.values().raw()))}, [&] { forward(); });
  feed_.prefetch();
  logits_ = logits.to(Device{});
  return true;
}

}  // namespace sg::infer
