// The images of a dataset through a model, batch by batch: loaded ahead by threads, as evaluation
// sees them. What evaluates while training, sgeval and sgpredict share.
#pragma once
#include <map>

#include "core/graph.h"
#include "data/device_prefetcher.h"
#include "data/labelled_images.h"
#include "infer/predictor.h"

namespace sg::infer {

struct DatasetPredictorSettings {
  int64_t batch_size = 128;
  int64_t workers = 2;  // threads that load images
  bool significance = false;
  double max_broken_share = 0.01;  // of the images (data/loader.h); more end it
  int rank = 0, ranks = 1;         // processes that share the images
  bool eager = false;              // operations are issued one by one, not as one graph a batch
};

class DatasetPredictor {
 public:
  // The model must outlive it; its weights may be changed between two passes.
  DatasetPredictor(const sgformer::Classifier& model, std::shared_ptr<const data::Dataset> dataset,
                   Preprocessing preprocessing, const DatasetPredictorSettings& settings);

  int64_t batches() const { return feed_.loader().batches(); }
  // From the first image, in the order of the dataset.
  void start() { feed_.start_epoch(0); }
  // The next batch; false after the last. Throws ExitCode::data where too many images are broken.
  bool next();

  // The batch, valid until next(). Images that cannot be read are left out.
  const std::vector<int64_t>& indices() const { return feed_.indices(); }  // of the dataset
  const Tensor& labels() const {                                           // i32 (B), on the CPU
    return feed_.host_tensors()[data::LabelledImages::kLabels];
  }
  const Tensor& logits() const { return logits_; }  // f32 (B, K), on the CPU
  // If asked for: the last map of each stage that has one, f32 (B, H, W) on the CPU.
  const std::vector<Tensor>& significance() const { return significance_; }

  // Messages of the images that could not be read so far, by index.
  const std::map<int64_t, std::string>& broken() const { return feed_.loader().broken_samples(); }

 private:
  const sgformer::Classifier& model_;
  ChannelStats stats_;
  bool with_significance_;
  data::DevicePrefetcher feed_;
  Graph forward_;
  Tensor on_device_;  // the logits of a whole batch
  Tensor logits_;
  std::vector<Tensor> significance_;
};

}  // namespace sg::infer
