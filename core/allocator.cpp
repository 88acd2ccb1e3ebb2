#include "core/allocator.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/error.h"

namespace sg {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Small blocks in steps of 512 bytes, larger ones in steps of 1/16 of their size or of a huge page.
size_t capacity_for(size_t bytes) {
  if (bytes <= 8192) return round_up(std::max<size_t>(bytes, 1), 512);
  if (bytes >= 2 * kHugePage) return round_up(bytes, kHugePage);
  size_t step = 512;
  while (step * 16 < bytes) step *= 2;
  return round_up(bytes, step);
}

thread_local Device g_scope_device;
thread_local Allocator* g_scope = nullptr;

// The allocators of all devices, made when first asked for. Never destroyed: tensors with static
// lifetime may outlive any order of destruction.
Allocator& shared(Device device, Allocator::Kind kind) {
  struct Key {
    Device device;
    Allocator::Kind kind;
    std::unique_ptr<Allocator> allocator;
  };
  static std::mutex& mutex = *new std::mutex;
  static std::vector<Key>& all = *new std::vector<Key>;
  const std::lock_guard lock(mutex);
  for (Key& k : all)
    if (k.device == device && k.kind == kind) return *k.allocator;
  backend(device.type).require(device);
  all.push_back({device, kind, std::make_unique<Allocator>(device, kind)});
  return *all.back().allocator;
}

}  // namespace

Allocator::~Allocator() { release_cached(); }

void* Allocator::ask(size_t bytes) const {
  Backend& b = backend(device_.type);
  return kind_ == Kind::pinned ? b.allocate_pinned(bytes) : b.allocate(device_, bytes);
}

void Allocator::give_back(void* data, size_t bytes) const {
  Backend& b = backend(device_.type);
  if (kind_ == Kind::pinned)
    b.release_pinned(data);
  else
    b.release(device_, data, bytes);
}

Allocator::Block Allocator::allocate(size_t bytes) {
  const size_t want = capacity_for(bytes);
  const std::lock_guard lock(mutex_);
  Block block;
  // Best fit, wasting at most a quarter.
  if (auto it = free_.lower_bound(want); it != free_.end() && it->first <= want + want / 4) {
    block = {it->second, it->first};
    free_.erase(it);
  } else {
    block = {ask(want), want};
    if (!block.data && !kept_) {  // free what is cached, here and by the device, and try once more
      release_cached_locked();
      if (Allocator& common = shared(device_, kind_); &common != this) common.release_cached();
      block.data = ask(want);
    }
    if (!block.data) out_of_memory(want);
    ++stats_.system_allocations;
    stats_.reserved += want;
  }
  stats_.in_use += block.capacity;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  return block;
}

void Allocator::out_of_memory(size_t asked) const {
  const bool pinned = kind_ == Kind::pinned;
  const size_t free = backend(pinned ? DeviceType::cpu : device_.type).free_memory(device_);
  OutOfMemory e(ExitCode::failure,
                fmt::format("{}{}: out of memory: {} bytes asked, {} bytes free, {} bytes in use "
                            "by tensors; use a smaller batch",
                            str(device_), pinned ? " (pinned memory of the host)" : "", asked, free,
                            stats_.in_use));
  e.asked = asked, e.free = free, e.in_use = stats_.in_use;
  throw e;
}

void Allocator::release(Block block) {
  const std::lock_guard lock(mutex_);
  stats_.in_use -= block.capacity;
  free_.emplace(block.capacity, block.data);
}

void Allocator::release_cached() {
  const std::lock_guard lock(mutex_);
  release_cached_locked();
}

void Allocator::keep() {
  const std::lock_guard lock(mutex_);
  kept_ = true;
}

void Allocator::release_cached_locked() {
  for (auto& [capacity, data] : free_) {
    give_back(data, capacity);
    stats_.reserved -= capacity;
  }
  free_.clear();
}

AllocatorStats Allocator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void Allocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak = stats_.in_use;
}

Allocator& Allocator::of(Device device) {
  if (g_scope && g_scope_device == device) return *g_scope;
  if (device.type == DeviceType::cpu) {  // the common case, without a lock
    static Allocator& cpu = shared({}, Kind::device);
    return cpu;
  }
  return shared(device, Kind::device);
}

Allocator& Allocator::pinned(Device device) { return shared(device, Kind::pinned); }

AllocatorScope::AllocatorScope(Device device, Allocator& allocator)
    : device_before_(std::exchange(g_scope_device, device)),
      before_(std::exchange(g_scope, &allocator)) {}

AllocatorScope::~AllocatorScope() { g_scope_device = device_before_, g_scope = before_; }

}  // namespace sg
