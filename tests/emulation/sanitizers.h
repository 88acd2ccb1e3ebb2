// Tells AddressSanitizer and ThreadSanitizer which fiber runs, and what a barrier orders.
#pragma once
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace sg::emulation {

#if defined(__SANITIZE_ADDRESS__)

class FiberShadow {
 public:
  void make(void* stack, size_t size) { bottom_ = stack, size_ = size; }
  void leave(FiberShadow& to) {
    last_ = this;
    __sanitizer_start_switch_fiber(&fake_, to.bottom_, to.size_);
  }
  void enter() {
    const void* bottom = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(fake_, &bottom, &size);
    if (last_ && !last_->bottom_) last_->bottom_ = bottom, last_->size_ = size;  // the host's
  }

 private:
  inline static FiberShadow* last_ = nullptr;
  void* fake_ = nullptr;
  const void* bottom_ = nullptr;
  size_t size_ = 0;
};
inline void happens_before_release(void*) {}
inline void happens_before_acquire(void*) {}

#elif defined(__SANITIZE_THREAD__)

class FiberShadow {
 public:
  ~FiberShadow() {
    if (fiber_) __tsan_destroy_fiber(fiber_);
  }
  void make(void*, size_t) { fiber_ = __tsan_create_fiber(0); }
  void leave(FiberShadow& to) {
    if (!fiber_) host_ = __tsan_get_current_fiber();
    // Taking turns orders nothing: only barriers do.
    __tsan_switch_to_fiber(to.fiber_ ? to.fiber_ : to.host_, __tsan_switch_to_fiber_no_sync);
  }
  void enter() {}

 private:
  void *fiber_ = nullptr, *host_ = nullptr;
};
inline void happens_before_release(void* p) { __tsan_release(p); }
inline void happens_before_acquire(void* p) { __tsan_acquire(p); }

#else

class FiberShadow {
 public:
  void make(void*, size_t) {}
  void leave(FiberShadow&) {}
  void enter() {}
};
inline void happens_before_release(void*) {}
inline void happens_before_acquire(void*) {}

#endif

}  // namespace sg::emulation
