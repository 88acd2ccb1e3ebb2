#include "data/device_prefetcher.h"

#include <algorithm>

namespace sg::data {
namespace {

LoaderConfig pinned(LoaderConfig config, Device device) {
  config.device = device;
  return config;
}

}  // namespace

DevicePrefetcher::DevicePrefetcher(std::shared_ptr<const SampleMaker> maker, LoaderConfig config,
                                   Device device)
    : loader_(maker, pinned(std::move(config), device)), device_(device) {
  for (Upload& u : uploads_) {
    u.computed = backend(device.type).event(device);
    u.arrived = backend(device.type).event(device);
    u.used = backend(device.type).event(device);
  }
  if (on_host()) return;
  const auto make = [&](std::vector<Tensor>& room) {
    for (const SampleTensor& t : maker->tensors())
      room.push_back(empty(t.of_batch(loader_.config().batch_size), t.dtype, device));
  };
  make(room_);
  for (Upload& u : uploads_) {
    make(u.room);
    u.used->record(current_stream(device));  // by whatever had this memory before
  }
}

DevicePrefetcher::~DevicePrefetcher() {
  for (const Upload& u : uploads_) try {
      u.arrived->synchronize();
    } catch (const Error&) {  // of a device that failed: reported where it was met
    }
}

void DevicePrefetcher::start_epoch(int64_t epoch, int64_t first_batch) {
  // A dropped upload keeps its batch until fetch() has waited for it, and its room is written in
  // order of the copies.
  for (Upload& u : uploads_) u.pending = false;
  ended_ = false;
  loader_.start_epoch(epoch, first_batch);
}

bool DevicePrefetcher::fetch() {
  Upload& u = uploads_[next_];
  if (u.pending) return true;
  if (ended_) return false;
  // The host's memory of two batches ago is free when its copy has been made.
  if (!u.batch.tensors.empty()) u.arrived->synchronize();
  ended_ = !loader_.next(u.batch);
  if (ended_) return false;
  u.pending = true, u.prefetched = false;
  if (on_host()) return true;
  Backend& b = backend(device_.type);
  Stream& copies = b.stream(device_, StreamRole::copy);
  u.used->wait_in(copies);
  for (size_t i = 0; i < u.room.size(); ++i)
    b.copy(copies, u.room[i].raw(), u.batch.tensors[i].raw(), u.batch.tensors[i].bytes());
  u.arrived->record(copies);
  return true;
}

void DevicePrefetcher::prefetch() {
  // On the CPU the loader's own threads do all that can be done ahead.
  Upload& u = uploads_[next_];
  if (on_host() || u.pending) return;
  u.computed->record(current_stream(device_));
  u.prefetched = fetch();
}

bool DevicePrefetcher::next() {
  if (!fetch()) return false;
  taken_ = next_;
  Upload& u = uploads_[taken_];
  u.pending = false;
  if (u.prefetched) {
    u.computed->synchronize(), u.arrived->synchronize();
    waited_ += std::max(u.arrived->seconds_since(*u.computed), 0.0);
  } else {
    waited_ += u.batch.waited;
  }
  if (on_host()) return true;
  next_ = 1 - next_;
  Stream& stream = current_stream(device_);
  u.arrived->wait_in(stream);
  const auto n = int64_t(u.batch.indices.size());
  tensors_.clear();
  for (size_t i = 0; i < room_.size(); ++i) {
    tensors_.push_back(room_[i].slice(0, n));
    tensors_[i].copy_(u.room[i].slice(0, n));
  }
  u.used->record(stream);
  return true;
}

}  // namespace sg::data
