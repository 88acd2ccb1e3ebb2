#include "train/feed.h"

namespace sg::train {
namespace {

data::LoaderConfig pinned(data::LoaderConfig config, Device device) {
  config.device = device;
  return config;
}

// Makes `t` a tensor of this shape, keeping it where it is one.
void fit(Tensor& t, const Tensor& like, Device device) {
  if (!t || !(t.shape() == like.shape())) t = empty(like.shape(), like.dtype(), device);
}

}  // namespace

Feed::Feed(std::shared_ptr<const data::Dataset> dataset, data::LoaderConfig config, Device device)
    : loader_(std::move(dataset), pinned(std::move(config), device)), device_(device) {
  for (Upload& u : uploads_) {
    u.arrived = backend(device.type).event(device);
    u.used = backend(device.type).event(device);
  }
}

void Feed::start_epoch(int64_t epoch, int64_t first_batch) {
  for (Upload& u : uploads_) u.pending = false;
  ended_ = false;
  loader_.start_epoch(epoch, first_batch);
}

bool Feed::fetch() {
  Upload& u = uploads_[next_];
  if (u.pending) return true;
  if (ended_) return false;
  // The host's memory of two batches ago is free when its copy has been made.
  if (u.batch.images) u.arrived->synchronize();
  ended_ = !loader_.next(u.batch);
  if (ended_) return false;
  waited_ += u.batch.waited;
  u.pending = true;
  if (on_host()) return true;
  fit(u.images, u.batch.images, device_), fit(u.labels, u.batch.labels, device_);
  Backend& b = backend(device_.type);
  Stream& copies = b.copy_stream(device_);
  u.used->wait_in(copies);
  b.copy(copies, u.images.raw(), u.batch.images.raw(), u.batch.images.bytes());
  b.copy(copies, u.labels.raw(), u.batch.labels.raw(), u.batch.labels.bytes());
  u.arrived->record(copies);
  return true;
}

void Feed::prefetch() {
  // On the CPU the loader's own threads do all that can be done ahead.
  if (!on_host()) fetch();
}

bool Feed::next() {
  if (!fetch()) return false;
  taken_ = next_;
  Upload& u = uploads_[taken_];
  u.pending = false;
  if (on_host()) return true;
  next_ = 1 - next_;
  Stream& stream = current_stream(device_);
  u.arrived->wait_in(stream);
  fit(images_, u.images, device_), fit(labels_, u.labels, device_);
  images_.copy_(u.images), labels_.copy_(u.labels);
  u.used->record(stream);
  return true;
}

}  // namespace sg::train
