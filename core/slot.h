// A kernel slot: one function pointer a device. Backends fill it by a Register object in the file
// that defines the kernel; no central list exists.
#pragma once
#include <utility>

#include "core/device.h"
#include "core/error.h"

namespace sg {

template <class Fn>
class Slot;

template <class... A>
class Slot<void(Stream&, A...)> {
 public:
  using Fn = void(Stream&, A...);
  constexpr explicit Slot(const char* name) : name_(name) {}

  void operator()(Stream& stream, A... args) const {
    Fn* f = fn_[int(stream.device.type)];
    if (!f) [[unlikely]]
      fail(ExitCode::failure, "kernel {} is not built for {}", name_, name_of(stream.device.type));
    f(stream, std::forward<A>(args)...);
  }
  void set(DeviceType device, Fn* f) { fn_[int(device)] = f; }

 private:
  const char* name_;
  Fn* fn_[kDeviceTypes] = {};
};

struct Register {
  template <class Fn>
  Register(Slot<Fn>& slot, DeviceType device, Fn* f) {
    slot.set(device, f);
  }
};

}  // namespace sg
