// Guards: bytes of a pattern behind blocks of memory, which nobody may write. For core/allocator.h.
//
// Guards of host memory are checked in place. Guards of a device's memory are copied to the host in
// order of its stream (look()). Recorded work repeats these copies, and nobody waits for them, so
// an overrun is found some time after it happened.
#pragma once
#include <cstddef>
#include <map>

#include "core/device.h"

namespace sg {

class Guards {
 public:
  // `bytes` behind each block; 0: none.
  Guards(Device device, bool on_host, size_t bytes)
      : device_(device), on_host_(on_host), bytes_(bytes) {}
  size_t bytes() const { return bytes_; }

  void add(void* block, size_t size);  // `size` without the guard, which lies behind
  void look(void* block);
  void look_at_all();  // and waits for the copies
  // Remembers the damage found so far, and restores the pattern.
  void find_damage();
  void remove(void* block);  // after look_at_all() and find_damage()

  // Throws ExitCode::failure for the first damage that any guards found: size of the block, first
  // byte behind it that was written.
  static void throw_damage();

 private:
  struct Guard {
    size_t size;      // of the block
    std::byte* seen;  // by the host: the guard itself, or a pinned copy
  };
  Device device_;
  bool on_host_;
  size_t bytes_;
  std::map<void*, Guard> guards_;
};

}  // namespace sg
