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
  for (const auto& [data, segment] : all_) unmap_huge(data, segment.size);
}

void* Segments::allocate(size_t bytes) {
  constexpr size_t kSize = 4 * kMost;
  bytes = round_up(bytes, kAlignment);
  const std::lock_guard lock(mutex_);
  auto at = all_.find(newest_);
  if (at == all_.end() || at->second.used + bytes > at->second.size) {
    // A small one where addresses are short (ulimit -v).
    size_t size = kSize;
    void* data = map_huge(size);
    if (!data) data = map_huge(size = round_up(bytes, kPage));
    if (!data) return nullptr;
    newest_ = static_cast<std::byte*>(data);
    at = all_.emplace(newest_, Segment{.size = size}).first;
  }
  Segment& segment = at->second;
  void* const block = newest_ + segment.used;
  segment.used += bytes, ++segment.blocks;
  return block;
}

void Segments::release(void* data, size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto at = std::prev(all_.upper_bound(static_cast<std::byte*>(data)));
  if (--at->second.blocks == 0) {
    unmap_huge(at->first, at->second.size);
    all_.erase(at);
    return;
  }
  // The pages that it has alone.
  const size_t begin = round_up(uintptr_t(data), kPage),
               end = (uintptr_t(data) + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace sg
