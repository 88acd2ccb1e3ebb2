// Batches of images with objects for a detector's training: images of any size, each with any
// number of objects. The same bits for any number of workers.
//
// The order of an epoch is that of data/aspect_order.h, so images of a batch are alike, and is a
// function of (seed, epoch) alone. A step takes the next `step_batches` batches of every rank from
// it, a part of the order for rank 0, the next for rank 1 (as data/loader.h). A sample that cannot
// be read is logged once and counted, and another, chosen from the seed, takes its place.
#pragma once
#include <optional>

#include "data/ahead.h"
#include "data/broken_samples.h"
#include "data/detection_transform.h"
#include "data/padded_images.h"

namespace sg::data {

struct DetectionBatchesConfig {
  DetectionTransformConfig transform;
  int64_t batch_size = 2;    // of this rank
  int64_t step_batches = 1;  // of this rank in a step
  int rank = 0, ranks = 1;
  uint64_t seed = 42;
  int workers = 2;                 // threads; 0: samples are made inside next()
  double max_broken_share = 0.01;  // data/broken_samples.h
};

struct DetectionBatch {
  PaddedImages padded;
  std::vector<std::vector<DetectionObject>> objects;  // of each image
  std::vector<int64_t> indices;                       // of the dataset
  double waited = 0;                                  // seconds spent in next()
};

class DetectionBatches {
 public:
  DetectionBatches(std::shared_ptr<const CocoDataset> dataset,
                   const DetectionBatchesConfig& config);

  const CocoDataset& dataset() const { return *dataset_; }
  const DetectionBatchesConfig& config() const { return config_; }
  int64_t batches() const { return batches_; }  // of this rank, an epoch

  // Workers begin at once. The rest of the previous epoch is discarded.
  void start_epoch(int64_t epoch, int64_t first_batch = 0);
  // False at the end of the epoch. Throws ExitCode::data where too many samples are broken.
  bool next(DetectionBatch& batch);

  // What is wrong with samples that could not be read, by index.
  const std::map<int64_t, std::string>& broken_samples() const { return broken_.messages(); }

 private:
  struct Made {
    DetectionSample sample;
    int64_t index = 0;
    std::vector<std::pair<int64_t, std::string>> broken;  // those that were tried before it
  };
  std::vector<int64_t> order_of(int64_t epoch) const;  // of the samples of all ranks
  Made make(int64_t epoch, int64_t index) const;

  std::shared_ptr<const CocoDataset> dataset_;
  DetectionBatchesConfig config_;
  std::vector<ImageSize> sizes_;
  int64_t batches_ = 0;
  BrokenSamples broken_;
  std::optional<Ahead<Made>> samples_;
};

}  // namespace sg::data
