#include "core/cpu/segments.h"

#include <sys/mman.h>

#include <cstdint>
#include <iterator>

namespace sg {
namespace {

constexpr size_t kAlignment = 64, kPage = size_t{4} << 10, kHugePage = size_t{2} << 20;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

// Of its own rather than of malloc(), which keeps large blocks that are freed once it has seen
// some.
void* map_huge(size_t bytes) {
  bytes = round_up(bytes, kPage);
  // Huge pages begin at multiples of their size: what is mapped before and behind goes back.
  void* const p =
      mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(p);
  const size_t before = round_up(uintptr_t(p), kHugePage) - uintptr_t(p);
  if (before > 0) munmap(begin, before);
  if (before < kHugePage) munmap(begin + before + bytes, kHugePage - before);
  madvise(begin + before, bytes, MADV_HUGEPAGE);
  return begin + before;
}

void unmap_huge(void* data, size_t bytes) { munmap(data, round_up(bytes, kPage)); }

Segments::~Segments() {
  for (const auto& [data, segment] : all_) unmap_huge(data, kSize);
}

void* Segments::allocate(size_t bytes) {
  bytes = round_up(bytes, kAlignment);
  const std::lock_guard lock(mutex_);
  auto at = all_.find(newest_);
  if (at == all_.end() || at->second.used + bytes > kSize) {
    newest_ = static_cast<std::byte*>(map_huge(kSize));
    if (!newest_) return nullptr;
    at = all_.emplace(newest_, Segment()).first;
  }
  Segment& segment = at->second;
  void* const block = newest_ + segment.used;
  segment.used += bytes, ++segment.blocks;
  return block;
}

void Segments::release(void* data) {
  const std::lock_guard lock(mutex_);
  const auto at = std::prev(all_.upper_bound(static_cast<std::byte*>(data)));
  if (--at->second.blocks > 0) return;
  unmap_huge(at->first, kSize);
  all_.erase(at);
}

}  // namespace sg
