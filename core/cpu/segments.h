#pragma once
#include <cstddef>
#include <map>
#include <mutex>

namespace sg {

// Host memory in huge pages, for blocks that are too small for pages of their own: cut from large
// segments one behind the other. What a block held goes back to the system when it is released, its
// addresses when all blocks of the segment are.
//
// A processor finds the 4 KiB pages of some MiB without a walk through page tables, and a step
// reads hundreds; in a virtual machine each walk is one of two levels.
class Segments {
 public:
  ~Segments();

  // 64-byte aligned, at most kMost bytes; nullptr where memory is exhausted.
  static constexpr size_t kMost = size_t{4} << 20;
  void* allocate(size_t bytes);
  // Of a block that allocate() made, with the size that was asked.
  void release(void* data, size_t bytes);

 private:
  struct Segment {
    size_t size = 0, used = 0, blocks = 0;
  };

  std::mutex mutex_;
  std::map<std::byte*, Segment> all_;
  std::byte* newest_ = nullptr;  // where blocks are cut from
};

// Memory of its own in huge pages; nullptr where memory is exhausted. It is given back whole, with
// the size that was asked.
void* map_huge(size_t bytes);
void unmap_huge(void* data, size_t bytes);

}  // namespace sg
