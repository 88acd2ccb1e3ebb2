#pragma once
#include <cstddef>
#include <map>
#include <mutex>

namespace sg {

// Host memory in huge pages, for blocks that are too small for pages of their own: cut from large
// segments one behind the other. A segment goes back to the system when all its blocks have.
//
// A processor finds the 4 KiB pages of some MiB without a walk through page tables, and a step
// reads hundreds; in a virtual machine each walk is one of two levels.
class Segments {
 public:
  ~Segments();

  // 64-byte aligned, at most kMost bytes; nullptr where memory is exhausted.
  static constexpr size_t kMost = size_t{4} << 20;
  void* allocate(size_t bytes);
  // Of a block that allocate() made.
  void release(void* data);

 private:
  struct Segment {
    size_t used = 0, blocks = 0;
  };
  static constexpr size_t kSize = 4 * kMost;

  std::mutex mutex_;
  std::map<std::byte*, Segment> all_;
  std::byte* newest_ = nullptr;  // where blocks are cut from
};

// Memory of its own in huge pages; nullptr where memory is exhausted. It is given back whole, with
// the size that was asked.
void* map_huge(size_t bytes);
void unmap_huge(void* data, size_t bytes);

}  // namespace sg
