// Tensor memory: a cache over a device's own allocator. Blocks are kept when freed and handed out
// again, so a steady training step asks the system for nothing.
//
// A block that is freed may be handed out at once: work that still uses it was issued before what
// the next owner issues, to the same stream.
//
// Usually blocks are a little larger than asked, and may be larger still when they are handed out
// again, so that a small overrun harms nobody and is not seen. To find overruns, the environment
// variable SG_ALLOCATOR_GUARD=N makes blocks of exactly the size that was asked, which only an
// equal size gets again, with N bytes of a pattern behind each (core/guards.h). With 0 the end of a
// block is the end of the device's allocation, for compute-sanitizer and the like. With more,
// patterns are looked at when a block is released; what is found is thrown by the next allocate()
// or check_guards(), as releasing must not throw.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <optional>

#include "core/device.h"
#include "core/error.h"
#include "core/guards.h"

namespace sg {

// Thrown where a device has no memory left; ExitCode::failure.
struct OutOfMemory : Error {
  using Error::Error;
  size_t asked = 0, free = 0, in_use = 0;  // bytes; in use by tensors
};

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
  enum class Kind {
    device,
    pinned,  // host memory for copies to the device
    pool,    // of a device, for work of several sizes in turn: free memory is split and merged
  };

  // guard: N of SG_ALLOCATOR_GUARD, or none. Throws ExitCode::usage where that is no number.
  explicit Allocator(Device device, Kind kind = Kind::device,
                     std::optional<size_t> guard = guard_of_environment());
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  // 64-byte aligned; throws OutOfMemory, and what check_guards() throws.
  Block allocate(size_t bytes);
  void release(Block block);
  void release_cached();  // gives every free block back to the system
  // While work is captured, no block goes back to the system, even if memory runs out. From then on
  // none does before the end, because captures also refer to blocks that are free.
  void set_capturing(bool on);
  AllocatorStats stats() const;
  void reset_peak();
  // Throws ExitCode::failure if a write behind a block has been found so far.
  void check_guards();
  // Waits for the work of all devices, then checks their allocators: for the end of a program.
  static void check_all_guards();
  static std::optional<size_t> guard_of_environment();

  // The allocator of this thread's tensors on `device`: the device's own, or that of an
  // AllocatorScope.
  static Allocator& of(Device device);
  // The allocator of pinned host memory, which the device copies from and to directly.
  static Allocator& pinned(Device device);

 private:
  void* ask(size_t bytes) const;
  void give_back(void* data, size_t bytes) const;
  void release_cached_locked();
  bool splits() const { return kind_ == Kind::pool && !guards_; }
  void add_free(std::byte* data, size_t bytes);  // merges it with free neighbours
  void remove_free(std::byte* data, size_t bytes);
  size_t guard_bytes() const { return guards_ ? guards_->bytes() : 0; }
  [[noreturn]] void out_of_memory(size_t asked) const;

  Device device_;
  Kind kind_;
  bool kept_ = false, capturing_ = false;
  mutable std::mutex mutex_;
  std::multimap<size_t, void*> free_;  // capacity -> data
  // Kind::pool, by address: free ranges, and segments that the system gave.
  std::map<std::byte*, size_t> free_at_, segments_;
  AllocatorStats stats_;
  std::optional<Guards> guards_;  // blocks are of exact sizes where there are
};

// In the scope, this thread's tensors on the device come from `allocator`. Captured work has memory
// of its own, which nothing else may use between its launches.
class AllocatorScope {
 public:
  AllocatorScope(Device device, Allocator& allocator);
  ~AllocatorScope();
  AllocatorScope(const AllocatorScope&) = delete;
  AllocatorScope& operator=(const AllocatorScope&) = delete;

 private:
  Device device_before_;
  Allocator* before_;
};

}  // namespace sg
