// What is drawn at random for each batch, always in the same memory, as a captured step needs it
// (core/graph.h).
#pragma once
#include <memory>

#include "core/backend.h"
#include "core/tensor.h"

namespace sg::tasks {

class Draws {
 public:
  Draws() = default;
  Draws(Shape shape, Dtype dtype, Device device)
      : host_(empty_pinned(shape, dtype, device)),
        copied_(backend(device.type).event(device)),
        device_(device.type == DeviceType::cpu ? host_ : empty(shape, dtype, device)) {}
  explicit operator bool() const { return bool(device_); }
  const Tensor& on_device() const { return device_; }

  // draw(host) fills it anew.
  template <class F>
  void update(F&& draw) {
    copied_->synchronize();
    draw(host_);
    if (device_.same_memory(host_)) return;
    device_.copy_(host_);
    copied_->record(device_.stream());
  }

 private:
  Tensor host_;
  std::unique_ptr<Event> copied_;  // from the host: it may be overwritten
  Tensor device_;
};

}  // namespace sg::tasks
