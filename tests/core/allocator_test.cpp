#include "core/allocator.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/backend.h"
#include "core/graph.h"
#include "core/tensor.h"
#include "tests/support/environment.h"
#include "tests/support/op_case.h"

using namespace sg;

namespace {

const Device kCuda{DeviceType::cuda, 0};

// Writes `bytes` bytes from `offset` on in a block, as a kernel would: in order of the stream.
void write(Device device, const Allocator::Block& block, size_t offset, size_t bytes) {
  Backend& b = backend(device.type);
  b.zero(b.stream(device), static_cast<std::byte*>(block.data) + offset, bytes);
}

}  // namespace

TEST_CASE("allocator: with guards, blocks are of the size that was asked") {
  for (const Device device : test::devices())
    for (const size_t guard : {0, 64}) {
      Allocator memory(device, Allocator::Kind::device, guard);
      const Allocator::Block block = memory.allocate(1001);
      CHECK(block.capacity == 1001);
      CHECK(memory.stats().reserved == 1001 + guard);
      memory.release(block);
      const Allocator::Block less = memory.allocate(1000), same = memory.allocate(1001);
      CHECK(less.data != block.data);
      CHECK(same.data == block.data);
      CHECK(memory.stats().system_allocations == 2);
      memory.release(less), memory.release(same);
      memory.release(memory.allocate(0));
    }
}

TEST_CASE(
    "allocator: blocks of most maps are of their size, others at most 1/32 or 256 KiB larger") {
  Allocator memory({}, Allocator::Kind::device);
  const auto capacity = [&](size_t bytes) {
    const Allocator::Block block = memory.allocate(bytes);
    memory.release(block);
    memory.release_cached();
    return block.capacity;
  };
  for (const size_t rows : {size_t{8} * 49, size_t{8} * 196, size_t{8} * 784, size_t{8} * 3136})
    for (const size_t row : {128, 512, 2048}) CHECK(capacity(rows * row) == rows * row);
  for (size_t bytes = 20000; bytes < size_t{64} << 20; bytes = bytes * 5 / 4 + 1) {
    CHECK(capacity(bytes) >= bytes);
    CHECK(capacity(bytes) < bytes + std::min(bytes / 32, size_t{256} << 10));
  }
}

TEST_CASE("allocator: what is written behind a block is found, with its place") {
  for (const Device device : test::devices()) {
    CAPTURE(str(device));
    Allocator memory(device, Allocator::Kind::device, 64);
    for (const auto& [offset, bytes] : {std::pair<size_t, size_t>{996, 5}, {1000, 1}, {1063, 1}}) {
      const Allocator::Block block = memory.allocate(1000);
      write(device, block, 0, 1000);  // all of it is its owner's
      memory.release(block);
      const Allocator::Block again = memory.allocate(1000);
      write(device, again, offset, bytes);
      memory.release(again);  // throws nothing
      backend(device.type).synchronize(current_stream(device));
      const std::string message = fmt::format(
          "{}: 1 of the 64 bytes behind a block of 1000 bytes were written, the first "
          "at offset {}",
          str(device), std::max<size_t>(offset, 1000));
      CHECK_THROWS_WITH_AS(memory.allocate(7), doctest::Contains(message.c_str()), Error);
      memory.release(memory.allocate(7));  // once
    }
  }
}

TEST_CASE("allocator: damage of memory that goes back is remembered") {
  for (const Device device : test::devices()) {
    {
      Allocator memory(device, Allocator::Kind::device, 16);
      const Allocator::Block block = memory.allocate(3);
      write(device, block, 2, 8);
      memory.release(block);
    }
    Allocator next({}, Allocator::Kind::device, 16);
    CHECK_THROWS_WITH_AS(
        next.check_guards(),
        doctest::Contains("7 of the 16 bytes behind a block of 3 bytes were written"), Error);
    next.check_guards();
  }
}

TEST_CASE("allocator: pinned memory has guards too") {
  if (!available(kCuda)) return;
  Allocator memory(kCuda, Allocator::Kind::pinned, 16);
  const Allocator::Block block = memory.allocate(10);
  static_cast<char*>(block.data)[10] = 0;
  CHECK_THROWS_WITH_AS(memory.check_guards(), doctest::Contains("a block of 10 bytes"), Error);
  memory.release(block);
}

TEST_CASE("allocator: recorded work keeps its guards, and what it writes behind a block is found") {
  if (!available(kCuda)) return;
  Tensor total = zeros({4}, Dtype::f32).to(kCuda);  // of allocators without guards
  const test::Environment guard("SG_ALLOCATOR_GUARD", "32");
  Graph graph(kCuda);
  bool overruns = false;
  const auto step = [&] {
    graph.run({overruns}, [&] {
      const Tensor one = full({5}, 1, Dtype::f32, kCuda);
      total.copy_(one.slice(0, 4));
      Tensor two = full({5}, 2, Dtype::f32, kCuda);
      total.copy_(two.slice(1, 5));
      Backend& b = backend(kCuda.type);
      if (overruns) b.zero(two.stream(), static_cast<std::byte*>(two.raw()) + two.bytes() + 7, 3);
    });
  };
  for (int i = 0; i < 5; ++i) step();
  CHECK(to_vector<float>(total) == std::vector<float>(4, 2));
  overruns = true;
  step();          // issued
  graph.forget();  // throws nothing
  Allocator next({}, Allocator::Kind::device, 0);
  CHECK_THROWS_WITH_AS(next.check_guards(),
                       doctest::Contains("3 of the 32 bytes behind a block of 20 bytes were "
                                         "written, the first at offset 27"),
                       Error);

  // A launch of the record itself.
  overruns = false;
  const auto recorded = [&] {
    Tensor t = zeros({20}, Dtype::u8, kCuda);
    Backend& b = backend(kCuda.type);
    if (overruns) b.zero(t.stream(), static_cast<std::byte*>(t.raw()) + 20, 1);
  };
  graph.run({7}, recorded);
  overruns = true;  // while it is recorded, which runs nothing yet
  graph.run({7}, recorded);
  to_vector<float>(total);
  CHECK_THROWS_WITH_AS(graph.run({7}, recorded), doctest::Contains("block of 20 bytes"), Error);
  graph.run({7}, recorded);
  to_vector<float>(total);
  graph.forget();  // throws nothing
  CHECK_THROWS_WITH_AS(next.check_guards(), doctest::Contains("block of 20 bytes"), Error);
}

TEST_CASE("allocator: a guard that is no number is refused") {
  for (const char* text : {"", "x", "12 ", "-1", "1048577"}) {
    const test::Environment guard("SG_ALLOCATOR_GUARD", text);
    CHECK_THROWS_WITH_AS(Allocator({}), doctest::Contains("SG_ALLOCATOR_GUARD"), Error);
  }
  const test::Environment guard("SG_ALLOCATOR_GUARD", "1048576");
  CHECK(Allocator::guard_of_environment() == 1048576);
}

TEST_CASE("allocator: a pool splits what is free, merges it again, and gives whole segments back") {
  for (const Device device : test::devices()) {
    Allocator pool(device, Allocator::Kind::pool, std::nullopt);
    const size_t mib = size_t{1} << 20;
    const Allocator::Block large = pool.allocate(8 * mib);
    auto* const begin = static_cast<std::byte*>(large.data);
    pool.release(large);
    std::vector<Allocator::Block> parts;
    for (int i = 0; i < 4; ++i) parts.push_back(pool.allocate(2 * mib - 600));
    for (size_t i = 0; i < 4; ++i)
      for (size_t j = 0; j < i; ++j) {
        const auto *a = static_cast<std::byte*>(parts[i].data),
                   *b = static_cast<std::byte*>(parts[j].data);
        CHECK((a + parts[i].capacity <= b || b + parts[j].capacity <= a));
        CHECK((a - begin) % 512 == 0);
      }
    CHECK(pool.stats().reserved == 8 * mib);
    for (const size_t i : {2, 0, 3}) pool.release(parts[i]);
    pool.release_cached();  // none is whole
    CHECK(pool.stats().reserved == 8 * mib);
    const Allocator::Block again = pool.allocate(4 * mib - 1200);  // of two neighbours
    CHECK(pool.stats().reserved == 8 * mib);
    pool.release(parts[1]), pool.release(again);
    CHECK(pool.stats().in_use == 0);
    const Allocator::Block whole = pool.allocate(8 * mib);
    CHECK(whole.data == large.data);
    pool.release(whole);
    pool.release_cached();
    CHECK(pool.stats().reserved == 0);
    CHECK(pool.stats().system_allocations == 1);
  }
}

TEST_CASE("allocator: blocks of neighbouring segments are never merged") {
  Allocator pool({}, Allocator::Kind::pool, std::nullopt);
  const size_t segment = size_t{2} << 20;
  std::vector<Allocator::Block> blocks;
  for (int i = 0; i < 8; ++i) blocks.push_back(pool.allocate(segment));
  for (const auto& b : blocks) pool.release(b);
  pool.release(pool.allocate(2 * segment));  // none of them is as large
  CHECK(pool.stats().system_allocations == 9);
}
