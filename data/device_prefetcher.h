// Batches of a loader, on the device that computes.
//
// On a GPU, the copy of the next batch runs on a queue of its own beside the step that computes;
// tensors() are always the first rows of the same memory, however short a batch is, so
// that a captured step (core/graph.h) finds each batch at the same addresses.
#pragma once
#include <array>

#include "core/backend.h"
#include "data/loader.h"

namespace sg::data {

class DevicePrefetcher {
 public:
  DevicePrefetcher(std::shared_ptr<const SampleMaker> maker, LoaderConfig config, Device device);
  ~DevicePrefetcher();  // waits for the copies that use its memory

  const Loader& loader() const { return loader_; }
  void start_epoch(int64_t epoch, int64_t first_batch = 0);
  // Makes tensors() the next batch, in order of the device's stream; false at the end
  // of the epoch.
  bool next();
  // After the work of a step has been issued: starts the copy of the next batch, for which it waits
  // for the loader.
  void prefetch();

  // Of SampleMaker::tensors(), on the device and on the CPU; none before next().
  const std::vector<Tensor>& tensors() const { return on_host() ? host_tensors() : tensors_; }
  const std::vector<Tensor>& host_tensors() const { return uploads_[taken_].batch.tensors; }
  const std::vector<int64_t>& indices() const { return uploads_[taken_].batch.indices; }
  // Seconds that the device had no batch to compute with, of all batches that next() gave: those
  // between the end of its work at prefetch() and the arrival of the copy; without prefetch(), and
  // on the CPU, those that next() waited for the loader.
  double waited() const { return waited_; }

 private:
  // A batch on its way.
  struct Upload {
    Batch batch;               // holds the host's memory until it has been copied
    std::vector<Tensor> room;  // for a whole batch, on the device
    std::unique_ptr<Event> computed, arrived, used;  // computed: the work at prefetch()
    bool pending = false, prefetched = false;
  };
  bool on_host() const { return device_.type == DeviceType::cpu; }
  bool fetch();

  Loader loader_;
  Device device_;
  std::array<Upload, 2> uploads_;
  size_t next_ = 0, taken_ = 0;  // the upload to take on, and that taken last
  bool ended_ = false;
  std::vector<Tensor> room_, tensors_;  // tensors_: views of it
  double waited_ = 0;
};

}  // namespace sg::data
