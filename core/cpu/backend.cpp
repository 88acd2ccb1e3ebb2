// The CPU as a device: its queue runs work at once, in the caller.
#include "core/backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "core/cpu/memory.h"

namespace sg {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

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
    // Large blocks ask for huge pages: a pass over a map of 25 MB otherwise misses the TLB 6,000
    // times.
    const bool huge = bytes >= 2 * kHugePage;
    void* p = nullptr;
    // Not aligned_alloc(), whose sizes are multiples of the alignment.
    if (posix_memalign(&p, huge ? kHugePage : kAlignment, bytes) != 0) return nullptr;
    if (huge) madvise(p, bytes, MADV_HUGEPAGE);
    return p;
  }
  void release(Device, void* data, size_t) override { std::free(data); }
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
};

CpuBackend cpu;
const RegisterBackend r{DeviceType::cpu, cpu};

}  // namespace
}  // namespace sg
