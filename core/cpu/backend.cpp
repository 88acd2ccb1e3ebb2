// The CPU as a device: its queue runs work at once, in the caller.
#include "core/backend.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "core/allocator.h"
#include "core/cpu/memory.h"
#include "core/cpu/segments.h"

namespace sg {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kLeastInSegment = size_t{16} << 10;

class CpuEvent : public Event {
 public:
  void record(Stream&) override { at_ = std::chrono::steady_clock::now(); }
  void wait_in(Stream&) override {}
  void synchronize() override {}
  double seconds_since(Event& earlier) override {
    return std::chrono::duration<double>(at_ - static_cast<CpuEvent&>(earlier).at_).count();
  }

 private:
  std::chrono::steady_clock::time_point at_;
};

class CpuBackend : public Backend {
 public:
  int device_count() override { return 1; }
  std::optional<Obstacle> obstacle(Device) override { return {}; }
  std::string describe(Device) override { return "CPU"; }
  size_t free_memory(Device) override { return available_memory(); }
  Stream& stream(Device, StreamRole) override {
    thread_local Stream stream;
    return stream;
  }

  void* allocate(Device, size_t bytes) override {
    if (is_in_segment(bytes)) return segments_.allocate(bytes);
    if (is_mapped(bytes)) return map_huge(bytes);
    void* p = nullptr;
    // Not aligned_alloc(), whose sizes are multiples of the alignment.
    return posix_memalign(&p, kAlignment, bytes) == 0 ? p : nullptr;
  }
  void release(Device, void* data, size_t bytes) override {
    if (is_in_segment(bytes))
      segments_.release(data, bytes);
    else if (is_mapped(bytes))
      unmap_huge(data, bytes);
    else
      std::free(data);
  }
  void* allocate_pinned(size_t bytes) override {
    return std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  }
  void release_pinned(void* data) override { std::free(data); }

  void copy(Stream&, void* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memmove(to, from, bytes);
  }
  void zero(Stream&, void* data, size_t bytes) override {
    if (bytes > 0) std::memset(data, 0, bytes);
  }
  void synchronize(Stream&) override {}
  std::unique_ptr<Event> event(Device) override { return std::make_unique<CpuEvent>(); }
  std::unique_ptr<CapturedWork> capture(Stream&, const std::function<void()>&) override {
    return nullptr;
  }

 private:
  // Sanitizers and valgrind see the ends of blocks of malloc() alone.
  static bool is_exact() {
#ifdef __SANITIZE_ADDRESS__
    return true;
#else
    static const bool exact = Allocator::guard_of_environment().has_value();
    return exact;
#endif
  }
  static bool is_in_segment(size_t bytes) {
    return kLeastInSegment <= bytes && bytes <= Segments::kMost && !is_exact();
  }
  static bool is_mapped(size_t bytes) { return bytes > Segments::kMost && !is_exact(); }

  Segments& segments_ = *new Segments;  // never destroyed, as the allocators
};

CpuBackend cpu;
const RegisterBackend r{DeviceType::cpu, cpu};

}  // namespace
}  // namespace sg
