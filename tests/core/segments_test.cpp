#include "core/cpu/segments.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "core/cpu/memory.h"

using namespace sg;

namespace {
constexpr size_t kMiB = size_t{1} << 20;
}

TEST_CASE("segments: blocks are aligned, apart, and written to the end") {
  Segments segments;
  std::vector<std::pair<uint8_t*, size_t>> blocks;
  for (const size_t bytes : {size_t{1}, size_t{100}, 3 * kMiB, Segments::kMost, Segments::kMost,
                             Segments::kMost, Segments::kMost, size_t{65}}) {
    auto* const p = static_cast<uint8_t*>(segments.allocate(bytes));
    REQUIRE(p);
    CHECK(uintptr_t(p) % 64 == 0);
    std::memset(p, int(blocks.size() + 1), bytes);
    blocks.emplace_back(p, bytes);
  }
  for (size_t i = 0; i < blocks.size(); ++i)
    for (const size_t at : {size_t{0}, blocks[i].second - 1}) CHECK(blocks[i].first[at] == i + 1);
  for (const auto& [p, bytes] : blocks) segments.release(p);
}

TEST_CASE("segments: a new one is begun where the last has gone back") {
  Segments segments;
  for (int i = 0; i < 3; ++i) {
    void* const block = segments.allocate(1000);
    REQUIRE(block);
    std::memset(block, 1, 1000);
    segments.release(block);
  }
}

TEST_CASE("segments: go back to the system with their last block") {
  constexpr int kBlocks = 64;
  constexpr size_t kSlack = 24 * kMiB;
  Segments segments;
  const size_t before = resident_memory();
  std::vector<void*> blocks;
  for (int i = 0; i < kBlocks; ++i) {
    blocks.push_back(segments.allocate(2 * kMiB));
    std::memset(blocks.back(), 1, 2 * kMiB);
  }
  CHECK(resident_memory() > before + kBlocks * 2 * kMiB - kSlack);
  for (void* block : blocks) segments.release(block);
  CHECK(resident_memory() < before + kSlack);
}
