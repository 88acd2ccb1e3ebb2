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
  for (const auto& [p, bytes] : blocks) segments.release(p, bytes);
}

TEST_CASE("segments: what is released goes back to the system") {
  constexpr int kBlocks = 64;
  constexpr size_t kBlock = 2 * kMiB, kSlack = 24 * kMiB;
  Segments segments;
  const size_t before = resident_memory();
  std::vector<void*> blocks;
  for (int i = 0; i < kBlocks; ++i) {
    blocks.push_back(segments.allocate(kBlock));
    std::memset(blocks.back(), 1, kBlock);
  }
  CHECK(resident_memory() > before + kBlocks * kBlock - kSlack);
  // One block of each segment stays, and keeps what it holds.
  for (int i = 0; i < kBlocks; ++i)
    if (i % 8 != 0) segments.release(blocks[size_t(i)], kBlock);
  CHECK(resident_memory() < before + kBlocks / 8 * kBlock + kSlack);
  for (int i = 0; i < kBlocks; i += 8) {
    const auto* const p = static_cast<const uint8_t*>(blocks[size_t(i)]);
    CHECK((p[0] == 1 && p[kBlock - 1] == 1));
    segments.release(blocks[size_t(i)], kBlock);
  }
  CHECK(resident_memory() < before + kSlack);
  // Nor does it grow with what comes and goes.
  for (int i = 0; i < kBlocks; ++i) {
    void* const block = segments.allocate(kBlock);
    REQUIRE(block);
    std::memset(block, 1, kBlock);
    segments.release(block, kBlock);
  }
  CHECK(resident_memory() < before + kSlack);
}
