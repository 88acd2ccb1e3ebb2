// Tensor memory: a cache over a device's own allocator. Blocks are kept when freed and handed out
// again, so a steady training step asks the system for nothing.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>

#include "core/device.h"

namespace sg {

struct AllocatorStats {
  size_t in_use = 0;              // bytes handed out now
  size_t peak = 0;                // most bytes handed out at once since reset_peak()
  size_t reserved = 0;            // bytes held from the system, cached ones included
  size_t system_allocations = 0;  // how often the system was asked
};

class Allocator {
 public:
  struct Block {
    void* data = nullptr;
    size_t capacity = 0;
  };
  // The device's own allocation calls; allocate returns nullptr where memory is exhausted.
  struct Raw {
    void* (*allocate)(size_t bytes);
    void (*release)(void* data, size_t bytes);
  };

  Allocator(Device device, Raw raw) : device_(device), raw_(raw) {}
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  Block allocate(size_t bytes);  // 64-byte aligned; throws ExitCode::failure naming the bytes
  void release(Block block);
  void release_cached();  // gives every free block back to the system
  AllocatorStats stats() const;
  void reset_peak();

  static Allocator& of(Device device);

 private:
  void release_cached_locked();

  Device device_;
  Raw raw_;
  mutable std::mutex mutex_;
  std::multimap<size_t, void*> free_;  // capacity -> data
  AllocatorStats stats_;
};

}  // namespace sg
