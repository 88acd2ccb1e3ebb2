// The device "cuda" on the host: memory of the host, and a stream that runs work at once, or
// records it.
#include "core/backend.h"

#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "core/error.h"
#include "tests/emulation/backend.h"
#include "tests/emulation/emulator.h"
#include "tests/support/faults.h"

namespace sg::emulation {
namespace {

std::vector<std::function<void()>>* g_recording = nullptr;
size_t g_memory_limit = SIZE_MAX, g_memory_used = 0;

class Recorded : public CapturedWork {
 public:
  void launch(Stream&) override {
    for (const auto& work : all) work();
  }
  std::vector<std::function<void()>> all;
};

class HostEvent : public Event {
 public:
  void record(Stream&) override { at_ = std::chrono::steady_clock::now(); }
  void wait_in(Stream&) override {}
  void synchronize() override {}
  double seconds_since(Event& earlier) override {
    return std::chrono::duration<double>(at_ - static_cast<HostEvent&>(earlier).at_).count();
  }

 private:
  std::chrono::steady_clock::time_point at_;
};

class EmulatedBackend : public Backend {
 public:
  int device_count() override { return 1; }
  std::optional<Obstacle> obstacle(Device device) override {
    if (device.index != 0) return Obstacle{"there is 1 emulated device", "use cuda:0"};
    if (cuda_required())
      return Obstacle{"SG_REQUIRE_CUDA is set, and this one is emulated", "unset SG_REQUIRE_CUDA"};
    return {};
  }
  std::string describe(Device) override { return "emulated GPU"; }
  size_t free_memory(Device) override { return g_memory_limit - g_memory_used; }
  Stream& stream(Device, StreamRole) override {
    static Stream stream{{DeviceType::cuda, 0}};
    return stream;
  }

  void* allocate(Device, size_t bytes) override {
    if (g_memory_used + bytes > g_memory_limit) return nullptr;
    g_memory_used += bytes;
    return add_block(exactly(512, bytes), bytes);
  }
  void release(Device, void* data, size_t bytes) override {
    g_memory_used -= bytes;
    blocks_.erase(data);
    std::free(data);
  }
  void* allocate_pinned(size_t bytes) override { return add_block(exactly(64, bytes), bytes); }
  void release_pinned(void* data) override {
    blocks_.erase(data);
    std::free(data);
  }

  void copy(Stream& stream, void* to, const void* from, size_t bytes) override {
    // A record runs later: pageable memory of the host may be gone by then.
    check(!g_recording || (known(to) && known(from)),
          "emulation: a copy of {} bytes from or to pageable memory is recorded", bytes);
    enqueue(stream, [=] {
      if (bytes && !dry()) std::memmove(to, from, bytes);
    });
  }
  void zero(Stream& stream, void* data, size_t bytes) override {
    enqueue(stream, [=] {
      if (bytes && !dry()) std::memset(data, 0, bytes);
    });
  }
  void synchronize(Stream&) override {
    check(!g_recording, "emulation: waited for the device while work is recorded");
  }
  std::unique_ptr<Event> event(Device) override { return std::make_unique<HostEvent>(); }
  std::unique_ptr<CapturedWork> capture(Stream&, const std::function<void()>& work) override {
    auto recorded = std::make_unique<Recorded>();
    g_recording = &recorded->all;
    struct Stop {
      ~Stop() { g_recording = nullptr; }
    } stop;
    work();
    return recorded;
  }

 private:
  // Ends where it is said to end, for AddressSanitizer.
  static void* exactly(size_t alignment, size_t bytes) {
    void* data = nullptr;
    return posix_memalign(&data, alignment, bytes) == 0 ? data : nullptr;
  }
  void* add_block(void* data, size_t bytes) {
    if (data) blocks_[data] = bytes;
    return data;
  }
  bool known(const void* p) const {
    auto it = blocks_.upper_bound(p);
    if (it == blocks_.begin()) return false;
    --it;
    return static_cast<const char*>(p) < static_cast<const char*>(it->first) + it->second;
  }
  std::map<const void*, size_t> blocks_;  // of the device, and pinned
};

EmulatedBackend emulated;
const RegisterBackend r{DeviceType::cuda, emulated};

const bool hooked = [] {
  test::cuda_is_emulated = true;
  test::set_descending_threads = [](bool on) {
    set_order(on ? Order::descending : Order::ascending);
  };
  test::fail_cuda_launch = fail_launch;
  test::limit_cuda_memory = limit_memory;
  test::set_dry_cuda = set_dry;
  return true;
}();

}  // namespace

void enqueue(const Stream&, std::function<void()> work) {
  if (g_recording)
    g_recording->push_back(std::move(work));
  else
    work();
}

void limit_memory(size_t bytes) { g_memory_limit = bytes; }

}  // namespace sg::emulation
