// Batches of a loader, on the device that computes.
//
// On a GPU, the copy of the next batch runs on a queue of its own beside the step that computes;
// images() and labels() are always the first rows of the same memory, however short a batch is, so
// that a captured step (core/graph.h) finds each batch at the same addresses.
#pragma once
#include <array>

#include "core/backend.h"
#include "data/loader.h"

namespace sg::data {

class DevicePrefetcher {
 public:
  DevicePrefetcher(std::shared_ptr<const data::Dataset> dataset, data::LoaderConfig config,
                   Device device);
  ~DevicePrefetcher();  // waits for the copies that use its memory

  const data::Loader& loader() const { return loader_; }
  void start_epoch(int64_t epoch, int64_t first_batch = 0);
  // Makes images() and labels() the next batch, in order of the device's stream; false at the end
  // of the epoch.
  bool next();
  // After the work of a step has been issued: starts the copy of the next batch, for which it waits
  // for the loader.
  void prefetch();

  // u8 (B, H, W, 3) and i32 (B), on the device; and the labels on the CPU.
  const Tensor& images() const { return on_host() ? uploads_[0].batch.images : images_; }
  const Tensor& labels() const { return on_host() ? host_labels() : labels_; }
  const Tensor& host_labels() const { return uploads_[taken_].batch.labels; }
  const std::vector<int64_t>& indices() const { return uploads_[taken_].batch.indices; }
  // Seconds that the device had no batch to compute with, of all batches that next() gave: those
  // between the end of its work at prefetch() and the arrival of the copy; without prefetch(), and
  // on the CPU, those that next() waited for the loader.
  double waited() const { return waited_; }

 private:
  struct Room {
    Tensor images, labels;  // of a whole batch, on the device
  };
  // A batch on its way.
  struct Upload {
    data::Batch batch;  // holds the host's memory until it has been copied
    Room room;
    std::unique_ptr<Event> computed, arrived, used;  // computed: the work at prefetch()
    bool pending = false, prefetched = false;
  };
  bool on_host() const { return device_.type == DeviceType::cpu; }
  bool fetch();

  data::Loader loader_;
  Device device_;
  std::array<Upload, 2> uploads_;
  size_t next_ = 0, taken_ = 0;  // the upload to take on, and that taken last
  bool ended_ = false;
  Room room_;
  Tensor images_, labels_;  // views of it
  double waited_ = 0;
};

}  // namespace sg::data
