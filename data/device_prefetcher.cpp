#include "data/device_prefetcher.h"

#include <algorithm>

namespace sg::data {
namespace {

data::LoaderConfig pinned(data::LoaderConfig config, Device device) {
  config.device = device;
  return config;
}

}  // namespace

DevicePrefetcher::DevicePrefetcher(std::shared_ptr<const data::Dataset> dataset,
                                   data::LoaderConfig config, Device device)
    : loader_(std::move(dataset), pinned(std::move(config), device)), device_(device) {
  for (Upload& u : uploads_) {
    u.computed = backend(device.type).event(device);
    u.arrived = backend(device.type).event(device);
    u.used = backend(device.type).event(device);
  }
  if (on_host()) return;
  const int64_t b = loader_.config().batch_size;
  const ImageSize size = loader_.config().transform.img_size;
  const auto make = [&](Room& room) {
    room = {empty({b, size.height, size.width, 3}, Dtype::u8, device),
            empty({b}, Dtype::i32, device)};
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
  if (u.batch.images) u.arrived->synchronize();
  ended_ = !loader_.next(u.batch);
  if (ended_) return false;
  u.pending = true, u.prefetched = false;
  if (on_host()) return true;
  Backend& b = backend(device_.type);
  Stream& copies = b.stream(device_, StreamRole::copy);
  u.used->wait_in(copies);
  b.copy(copies, u.room.images.raw(), u.batch.images.raw(), u.batch.images.bytes());
  b.copy(copies, u.room.labels.raw(), u.batch.labels.raw(), u.batch.labels.bytes());
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
  const int64_t n = u.batch.images.dim(0);
  images_ = room_.images.slice(0, n), labels_ = room_.labels.slice(0, n);
  images_.copy_(u.room.images.slice(0, n)), labels_.copy_(u.room.labels.slice(0, n));
  u.used->record(stream);
  return true;
}

}  // namespace sg::data
