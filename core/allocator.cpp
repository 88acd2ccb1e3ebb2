#include "core/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "core/error.h"

namespace sg {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

void* cpu_allocate(size_t bytes) {
  // Large blocks ask for huge pages: a pass over a map of 25 MB otherwise misses the TLB 6,000
  // times.
  const bool huge = bytes >= 2 * kHugePage;
  void* p = std::aligned_alloc(huge ? kHugePage : kAlignment, bytes);
  if (p && huge) madvise(p, bytes, MADV_HUGEPAGE);
  return p;
}
void cpu_release(void* p, size_t) { std::free(p); }

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Small blocks in steps of 512 bytes, larger ones in steps of 1/16 of their size or of a huge page.
size_t capacity_for(size_t bytes) {
  if (bytes <= 8192) return round_up(std::max<size_t>(bytes, 1), 512);
  if (bytes >= 2 * kHugePage) return round_up(bytes, kHugePage);
  size_t step = 512;
  while (step * 16 < bytes) step *= 2;
  return round_up(bytes, step);
}

}  // namespace

Allocator::~Allocator() { release_cached(); }

Allocator::Block Allocator::allocate(size_t bytes) {
  const size_t want = capacity_for(bytes);
  const std::lock_guard lock(mutex_);
  Block block;
  // Best fit, wasting at most a quarter.
  if (auto it = free_.lower_bound(want); it != free_.end() && it->first <= want + want / 4) {
    block = {it->second, it->first};
    free_.erase(it);
  } else {
    block = {raw_.allocate(want), want};
    if (!block.data) {  // free what is cached and try once more
      release_cached_locked();
      block.data = raw_.allocate(want);
    }
    check(block.data != nullptr,
          "{}: out of memory: {} bytes asked, {} bytes in use by tensors; use a smaller batch",
          str(device_), want, stats_.in_use);
    ++stats_.system_allocations;
    stats_.reserved += want;
  }
  stats_.in_use += block.capacity;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  return block;
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

void Allocator::release_cached_locked() {
  for (auto& [capacity, data] : free_) {
    raw_.release(data, capacity);
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
  check(device.type == DeviceType::cpu,
        "device {}: this build has no CUDA backend; use --device cpu", str(device));
  // Never destroyed: tensors with static lifetime may outlive any order of destruction.
  static Allocator& cpu = *new Allocator({}, {cpu_allocate, cpu_release});
  return cpu;
}

}  // namespace sg
