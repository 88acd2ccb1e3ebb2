// Batches of samples, made ahead by threads, in an order that depends on nothing but
// (seed, epoch): the same bits for any number of workers, and for any number of ranks the same
// samples in each global batch.
//
// Training: the order of an epoch is shuffled (data/epoch_order.h). A step takes the next
// `step_batches` batches of every rank from it, a part of the order for rank 0, the next for rank
// 1; so what a step sees depends on its images alone, not on how many ranks share them. The last
// partial step is dropped. Repeated copies of a sample are each augmented by other draws.
// Evaluation: the order of the dataset, each sample once. A rank has one part of it, as long as the
// others' or one longer; the last batch may be smaller.
//
// A sample that cannot be read is logged once and counted. Training replaces it by another, chosen
// from the seed; evaluation leaves it out. More than a stated share of them ends the run.
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/tensor.h"
#include "data/broken_samples.h"
#include "data/epoch_order.h"
#include "data/sample_maker.h"

namespace sg::data {

struct LoaderConfig {
  int batch_size = 128;  // of this rank
  bool training = true;
  uint64_t seed = 42;
  // Training: copies of each sample in a row (EpochOrderConfig).
  int aug_repeats = 0;
  int rank = 0, ranks = 1;
  int step_batches = 1;  // training: of this rank in a step
  int workers = 4;       // threads; 0: samples are made in the caller's thread, inside next()
  int prefetch = 2;      // batches made ahead
  Device device;         // that batches are copied to: they lie in host memory pinned for it
  // Largest fraction of the samples that may be broken (data/broken_samples.h).
  double max_broken_share = 0.01;
};

struct Batch {
  std::vector<Tensor> tensors;   // as SampleMaker::tensors(), of B samples
  std::vector<int64_t> indices;  // of the dataset
  int64_t number = 0;            // in its epoch; resume with start_epoch(epoch, number + 1)
  double waited = 0;             // seconds spent in next()
};

class Loader {
 public:
  Loader(std::shared_ptr<const SampleMaker> maker, LoaderConfig config);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  const ImageSet& images() const { return images_; }
  const LoaderConfig& config() const { return config_; }
  int64_t samples() const { return samples_; }  // of this rank, an epoch
  int64_t batches() const { return batches_; }  // of this rank, an epoch

  // Workers begin at once, so an early call hides the time of the first batch. The rest of the
  // previous epoch is discarded.
  void start_epoch(int64_t epoch, int64_t first_batch = 0);

  // False at the end of the epoch. Tensors handed out before are reused unless something
  // else refers to them. Rethrows the error of a worker at the batch in which it happened.
  bool next(Batch& batch);

  // Different samples, of training so far, of evaluation in this epoch.
  int64_t broken() const { return int64_t(broken_samples().size()); }
  // What is wrong with them, by index.
  const std::map<int64_t, std::string>& broken_samples() const { return broken_.messages(); }

 private:
  struct Broken {
    int64_t item, sample;
    std::string message;
  };
  // A batch in the making. Item i of the batch is written by one worker.
  struct Slot {
    std::vector<Tensor> tensors;
    std::vector<int64_t> indices;  // -1: left out
    std::vector<Broken> broken;
    std::exception_ptr error;
    int64_t error_item = 0;
    int64_t number = -1, pending = 0;
  };
  void stop();
  void work();
  void allocate(Slot& slot) const;
  void allocate_if_shared(Slot& slot) const;
  int64_t items_of(int64_t batch) const;
  int64_t order_of(int64_t position) const;  // where in the epoch's order
  Slot& slot_of(int64_t batch) { return slots_[size_t(batch) % slots_.size()]; }
  Slot& claim(int64_t position);
  void make(Slot& slot, int64_t position, SampleMaker::Worker& worker);
  bool try_sample(Slot& slot, int64_t item, const EpochOrder::Item& drawn,
                  SampleMaker::Worker& worker);
  void wait_for(Slot& slot, int64_t batch);
  void report_broken(Slot& slot);
  bool hand_out(Slot& slot, Batch& batch);

  std::shared_ptr<const SampleMaker> maker_;
  const ImageSet& images_;
  LoaderConfig config_;
  int64_t samples_ = 0, batches_ = 0;
  int64_t epoch_ = -1;
  EpochOrder order_;
  BrokenSamples broken_;
  std::unique_ptr<SampleMaker::Worker> own_;  // where there are no threads

  std::mutex mutex_;  // guards what follows, and the counters of the slots
  std::condition_variable work_, ready_;
  std::vector<Slot> slots_;
  int64_t position_ = 0, end_ = 0;  // the next item to make, of this rank's share
  int64_t batch_ = 0;               // the next batch to hand out
  int64_t active_ = 0;              // items in the making
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sg::data
