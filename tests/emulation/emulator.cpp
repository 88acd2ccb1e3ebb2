#include "tests/emulation/emulator.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstring>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.h"
#include "tests/emulation/sanitizers.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace sg::emulation {
namespace {

constexpr size_t kStack = 256 << 10, kExchange = 64;
constexpr int kLanes = 32, kMaxThreads = 1024;
// A block of the least GPU has 163 KiB (core/cuda/runtime.cpp); 2 are left to arrays of set size.
constexpr size_t kMaxShared = 161 << 10;

// A barrier is passed when all living threads that belong to it have arrived.
struct Barrier {
  int members = 0, arrived = 0;
  int passed = 0;               // members when it was last passed
  const void* place = nullptr;  // in the code, of those that have arrived
  uint64_t generation = 0;
};

struct Warp {
  Barrier barrier;
  // Two sets of slots: a lane that is one exchange ahead must not overwrite what others still read.
  alignas(16) char slots[2][kLanes][kExchange];
};

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

// Where a fiber, or the host, stands. Not by swapcontext() alone: that asks the system to set the
// signals at each switch, which took as long as all else.
struct Context {
  void* registers[5] = {};
  ucontext_t* start = nullptr;  // of a fiber that has not run yet
};

struct Fiber {
  Context context;
  ucontext_t start{};
  void* stack = nullptr;
  FiberShadow shadow;  // what sanitizers know of it
  uint3 thread;
  int warp = 0, lane = 0;
  unsigned exchanges = 0;
  bool done = true;
  std::deque<std::vector<Copy>> copies;  // committed groups, then the open one
};

// The block that runs.
struct Block {
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept for later blocks
  std::vector<std::unique_ptr<Warp>> warps;
  int threads = 0, living = 0, current = 0;
  int64_t stalled = 0;  // switches since something last moved
  Barrier barrier;
  Context host;
  FiberShadow host_shadow;
  const std::function<void()>* body = nullptr;
  const char* kernel = "";
  std::string failure;
  Order order = Order::ascending;
  std::unique_ptr<char[]> shared;
};
Block& g = *new Block;  // never destroyed: fibers may be asked for late
int64_t g_fail_in = 0;
bool g_dry = false;

[[noreturn, gnu::noinline]] void resume(Context& c) {
  if (c.start) setcontext(std::exchange(c.start, nullptr));
  __builtin_longjmp(c.registers, 1);
}

// Leaves the running fiber (or the host) for another.
void switch_to(Context& from, FiberShadow& from_shadow, Context& to, FiberShadow& to_shadow) {
  from_shadow.leave(to_shadow);
  if (!__builtin_setjmp(from.registers)) resume(to);
  from_shadow.enter();
}

void to_host(Fiber& f) { switch_to(f.context, f.shadow, g.host, g.host_shadow); }

// Lets the next living thread run, in the order that is set.
void next(Fiber& from) {
  const int step = g.order == Order::ascending ? 1 : g.threads - 1;
  int i = g.current;
  do i = (i + step) % g.threads;
  while (g.fibers[size_t(i)]->done);
  if (i == g.current) return;
  g.current = i;
  Fiber& to = *g.fibers[size_t(i)];
  threadIdx = to.thread;
  switch_to(from.context, from.shadow, to.context, to.shadow);
}

[[noreturn]] void fault(Fiber& f, std::string message) {
  if (g.failure.empty()) g.failure = std::move(message);
  to_host(f);  // never resumed: run_grid makes new fibers
  std::abort();
}

void pass(Barrier& b) {
  if (b.arrived < b.members || b.members == 0) return;
  b.arrived = 0, b.passed = b.members;
  ++b.generation;
  g.stalled = 0;
}

std::string thread_name() {
  return fmt::format("(block {} {} {}, thread {})", blockIdx.x, blockIdx.y, blockIdx.z, g.current);
}

void wait_at(Barrier& b, const void* place) {
  Fiber& f = *g.fibers[size_t(g.current)];
  const uint64_t generation = b.generation;
  happens_before_release(&b);
  if (++b.arrived == 1) b.place = place;
  if (b.place != place)
    fault(f, fmt::format("{}: threads meet from different places of the code {}", g.kernel,
                         thread_name()));
  pass(b);
  while (b.generation == generation) {
    if (++g.stalled > 4 * int64_t{g.threads})
      fault(f, fmt::format("{}: threads wait at different barriers {}", g.kernel, thread_name()));
    next(f);
  }
  happens_before_acquire(&b);
}

void finish(Fiber& f) {
  f.done = true;
  f.copies.clear();
  Barrier& warp = g.warps[size_t(f.warp)]->barrier;
  g.stalled = 0;
  --g.living, --g.barrier.members, --warp.members;
  pass(g.barrier), pass(warp);
}

void fiber_main() {
  g.fibers[size_t(g.current)]->shadow.enter();
  for (;;) {
    Fiber& f = *g.fibers[size_t(g.current)];
    happens_before_acquire(&g);
    try {
      (*g.body)();
    } catch (const std::exception& e) {
      fault(f, e.what());
    }
    happens_before_release(&g.living);
    finish(f);
    if (g.living > 0)
      next(f);
    else
      to_host(f);
  }
}

void happen(const Copy& c) {
  std::memset(c.to, 0, 16);
  if (c.bytes) std::memcpy(c.to, c.from, c.bytes);
}

std::unique_ptr<Fiber> make_fiber() {
  auto f = std::make_unique<Fiber>();
  f->stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(f->stack != MAP_FAILED, "emulation: no memory for a stack");
  getcontext(&f->start);
  f->start.uc_stack = {.ss_sp = f->stack, .ss_flags = 0, .ss_size = kStack};
  f->start.uc_link = nullptr;
  makecontext(&f->start, fiber_main, 0);
  f->context.start = &f->start;
  f->shadow.make(f->stack, kStack);
  return f;
}

void run_block() {
  const int lanes = g.threads;
  while (int(g.fibers.size()) < lanes) g.fibers.push_back(make_fiber());
  g.warps.clear();
  for (int i = 0; i < lanes; ++i) {
    Fiber& f = *g.fibers[size_t(i)];
    f.thread = {unsigned(i) % blockDim.x, unsigned(i) / blockDim.x % blockDim.y,
                unsigned(i) / blockDim.x / blockDim.y};
    f.warp = i / kLanes, f.lane = i % kLanes, f.exchanges = 0, f.done = false;
    f.copies.assign(1, {});
    if (f.lane == 0) g.warps.push_back(std::make_unique<Warp>());
    ++g.warps.back()->barrier.members;
  }
  g.living = g.barrier.members = lanes;
  g.barrier.arrived = 0, g.stalled = 0;
  g.current = g.order == Order::ascending ? 0 : lanes - 1;
  Fiber& first = *g.fibers[size_t(g.current)];
  threadIdx = first.thread;
  happens_before_release(&g);
  switch_to(g.host, g.host_shadow, first.context, first.shadow);
  happens_before_acquire(&g.living);
  if (g.failure.empty()) return;
  g.fibers.clear(), g.living = 0;  // they stand where they failed
  fail(ExitCode::failure, "{}", std::exchange(g.failure, {}));
}

}  // namespace

void run_grid(const char* kernel, dim3 grid, dim3 block, size_t shared,
              const std::function<void()>& thread) {
  const int64_t threads = int64_t{block.x} * block.y * block.z;
  check(g_fail_in == 0 || --g_fail_in != 0, "{}: launch failed (asked for by the test)", kernel);
  check(threads >= 1 && threads <= kMaxThreads && threads % kLanes == 0 && block.z <= 64,
        "{}: a block of {} x {} x {} threads", kernel, block.x, block.y, block.z);
  check(grid.y <= 65535 && grid.z <= 65535 && grid.x <= 0x7fffffffu, "{}: a grid of {} x {} x {}",
        kernel, grid.x, grid.y, grid.z);
  check(shared <= kMaxShared, "{}: {} bytes of shared memory, a GPU has {}", kernel, shared,
        kMaxShared);
  if (g_dry) return;
  g.kernel = kernel, g.body = &thread, g.threads = int(threads);
  blockDim = block, gridDim = grid;
  const int64_t blocks = int64_t{grid.x} * grid.y * grid.z;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t b = g.order == Order::ascending ? i : blocks - 1 - i;
    blockIdx = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
    // Fresh memory a block, of exactly its size, full of NaNs.
    g.shared.reset(shared ? new char[shared] : nullptr);
    if (shared) std::memset(g.shared.get(), 0xff, shared);
    run_block();
  }
}

void fault_here(const char* what) {
  check(g.living > 0, "{}", what);  // on the host
  fault(*g.fibers[size_t(g.current)], fmt::format("{}: {} {}", g.kernel, what, thread_name()));
}

void set_order(Order order) { g.order = order; }
void set_dry(bool dry) { g_dry = dry; }
bool dry() { return g_dry; }
void fail_launch(int64_t n) { g_fail_in = n; }
void* dynamic_shared_memory() { return g.shared.get(); }

void exchange(const void* data, size_t bytes, const void* place) {
  Fiber& f = *g.fibers[size_t(g.current)];
  Warp& w = *g.warps[size_t(f.warp)];
  std::memcpy(w.slots[++f.exchanges % 2][f.lane], data, std::min(bytes, kExchange));
  wait_at(w.barrier, place);
  if (w.barrier.passed < kLanes) fault_here("a warp function of lanes some of which have returned");
}

const void* of_lane(int lane) {
  const Fiber& f = *g.fibers[size_t(g.current)];
  return g.warps[size_t(f.warp)]->slots[f.exchanges % 2][lane];
}

void defer_copy(void* to, const void* from, size_t bytes) {
  Fiber& f = *g.fibers[size_t(g.current)];
  if (uintptr_t(to) % 16 || uintptr_t(from) % 16)
    fault(f, fmt::format("{}: an asynchronous copy of unaligned addresses", g.kernel));
  const Copy copy{to, from, bytes};
  if (g.order == Order::descending)
    happen(copy);
  else
    f.copies.back().push_back(copy);
}

void commit_copies() { g.fibers[size_t(g.current)]->copies.emplace_back(); }

void wait_copies(size_t pending) {
  auto& groups = g.fibers[size_t(g.current)]->copies;
  for (; groups.size() > pending + 1; groups.pop_front())
    for (const Copy& c : groups.front()) happen(c);
}

}  // namespace sg::emulation

void __syncthreads() {
  sg::emulation::wait_at(sg::emulation::g.barrier, __builtin_return_address(0));
}
void __syncwarp() {
  auto& g = sg::emulation::g;
  sg::emulation::wait_at(g.warps[size_t(g.fibers[size_t(g.current)]->warp)]->barrier,
                         __builtin_return_address(0));
}
