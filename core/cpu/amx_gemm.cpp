#include "core/cpu/amx_gemm.h"

#include <algorithm>
#include <bit>
#include <memory>

#include "core/cpu/add_into.h"
#include "core/cpu/amx_tiles.h"
#include "core/cpu/parallel.h"
#include "core/tensor.h"

namespace sg::amx {
namespace {

// Terms of a sum that are multiplied at once: a right panel of them, 32 KiB, stays in the first
// cache while many left panels pass by.
constexpr int64_t kChunk = 512;
// Most elements of a left operand, and most blocks of sums, that a unit of work may have: 256 KiB
// of each, so that they stay in the second cache of 2 MiB. So many blocks are a square of panels.
constexpr int64_t kLeftSize = 1 << 17, kBlocks = 64, kUnitPanels = 8;
// Columns of a right operand that are packed at once.
constexpr int64_t kGroup = 256, kRightSize = kGroup * kChunk;
// Bytes of a result from which on it is larger than a core's second cache.
constexpr int64_t kStreamed = 2 << 20;

constexpr int64_t quotient(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t multiple(int64_t a, int64_t b) { return quotient(a, b) * b; }

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

template <class C>
struct Matmul {
  int64_t m, n, k;
  GemmOperand<bf16> a, b;
  C* c;
  bool accumulate;
  const bf16* bias;
  // A large result goes to memory past the caches, which takes half as long where it was in none.
  bool streamed = m * n * int64_t(sizeof(C)) > kStreamed;
};

// How a matmul is cut into units of work, which threads share: the terms of the sums, the panels of
// rows and those of columns. `shared` is whether b is packed before, for all units. Each sum is
// added in the same order in any unit: only the number of parts decides about bits.
struct Units {
  int64_t parts = 1, rows = 1, columns = 1;
  bool shared = false;
  int64_t count() const { return parts * rows * columns; }
};

Range part(int64_t size, int64_t count, int64_t i) {
  return {size * i / count, size * (i + 1) / count};
}
// Range i of `count` of a side, which begins at a panel.
Range side_part(int64_t side, int64_t count, int64_t i) {
  const Range panels = part(panels_of(side), count, i);
  return {panels.begin * kSide, std::min(side, panels.end * kSide)};
}

// Memory of a thread, kept between calls: a matmul may run inside a parallel loop, which must not
// allocate tensors (core/cpu/scratch.h), and those count as what a step needs.
struct alignas(64) Workspace {
  bf16 left[kLeftSize], right[kRightSize];
  float sums[kBlocks * kBlockSize];
};
Workspace& workspace() {
  thread_local const auto w = std::make_unique<Workspace>();
  return *w;
}

enum class Side { left, right };

// Packs the panels of a side of an operand, each of `steps` steps, in the order of memory.
template <Side kWhich>
void pack(GemmOperand<bf16> x, Range side, Range terms, int64_t steps, bf16* to) {
  const bool terms_adjoin = x.transposed == (kWhich == Side::right);
  const Range rows = terms_adjoin ? side : terms, columns = terms_adjoin ? terms : side;
  const int64_t across = panels_of(columns.size());
  for (int64_t down = 0; down < panels_of(rows.size()); ++down)
    for (int64_t block = 0; block < across; ++block) {
      const int64_t row = rows.begin + down * kSide, column = columns.begin + block * kSide;
      // The next rows are fetched in the order of memory, while these are packed.
      for (int64_t line = block * kSide; line < (block + 1) * kSide; ++line)
        if (const int64_t next = row + kSide + line / across; next < rows.end)
          __builtin_prefetch(x.data + next * x.stride + columns.begin + line % across * kSide);
      const int64_t height = std::min(kSide, rows.end - row),
                    width = std::min(kSide, columns.end - column),
                    at = terms_adjoin ? down * steps + block : block * steps + down;
      GemmOperand<bf16> from = x;
      from.data += row * x.stride + column;
      (kWhich == Side::left ? pack_left : pack_right)(
          from, terms_adjoin ? height : width, terms_adjoin ? width : height, to + at * kStepSize);
    }
}

// The sums of rows x columns over `terms`, to c; or to `partial`, all blocks of the matmul, if
// given. `packed` is b, if it is packed.
template <class C>
void multiply_unit(const Matmul<C>& p, Range rows, Range columns, Range terms, const bf16* packed,
                   float* partial) {
  const Scope tiles;
  Workspace& w = workspace();
  // In place, a panel of fewer rows or terms would read what is not there.
  const bool in_place = !p.a.transposed && terms.size() % kTerms == 0;
  const Range whole{rows.begin, in_place ? rows.begin + rows.size() / kSide * kSide : rows.begin};
  for (int64_t t = terms.begin; t < terms.end; t += kChunk) {
    const Range chunk{t, std::min(t + kChunk, terms.end)};
    const bool first = t == terms.begin, last = chunk.end == terms.end;
    const int64_t steps = steps_of(chunk.size());
    pack<Side::left>(p.a, {whole.end, rows.end}, chunk, steps, w.left);
    for (int64_t j0 = columns.begin; j0 < columns.end; j0 += kGroup) {
      const Range group{j0, std::min(j0 + kGroup, columns.end)};
      if (!packed) pack<Side::right>(p.b, group, chunk, steps, w.right);
      for (int64_t j = group.begin; j < group.end; j += kSide) {
        const bf16* const right = packed
                                      ? packed + (j * steps_of(p.k) + t / kTerms * kSide) * kTerms
                                      : w.right + (j - j0) * steps * kTerms;
        for (int64_t i = rows.begin; i < rows.end; i += kSide) {
          const LeftPanel left = i < whole.end
                                     ? panel_in_place(p.a.data + i * p.a.stride + t, p.a.stride)
                                     : packed_panel(w.left + (i - whole.end) * steps * kTerms);
          float* sums = w.sums;
          if (partial)
            sums = partial + (i / kSide * panels_of(p.n) + j / kSide) * kBlockSize;
          else if (!first || !last)
            sums += ((i - rows.begin) / kSide * panels_of(columns.size()) +
                     (j - columns.begin) / kSide) *
                    kBlockSize;
          multiply(left, right, steps, sums, !first);
          if (last && !partial)
            store_block(sums, std::min(kSide, rows.end - i), std::min(kSide, columns.end - j),
                        p.c + i * p.n + j, p.n, p.accumulate, p.bias ? p.bias + j : nullptr,
                        p.streamed);
        }
      }
    }
  }
  if (p.streamed) finish_stores();
}

// c from the blocks of all parts, added in their order.
template <class C>
void add_parts(const Matmul<C>& p, float* partial, int64_t parts) {
  const int64_t columns = panels_of(p.n), blocks = panels_of(p.m) * columns;
  parallel_for(blocks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      float* const sums = partial + block * kBlockSize;
      for (int64_t i = 1; i < parts; ++i)
        add_into(sums + i * blocks * kBlockSize, sums, kBlockSize);
      const int64_t i = block / columns * kSide, j = block % columns * kSide;
      store_block(sums, std::min(kSide, p.m - i), std::min(kSide, p.n - j), p.c + i * p.n + j, p.n,
                  p.accumulate, p.bias ? p.bias + j : nullptr, false);
    }
  });
}

// Panels of the left operand that a unit may have.
int64_t most_panels(int64_t k) {
  return std::max<int64_t>(1, kLeftSize / (kSide * std::min(kChunk, multiple(k, kTerms))));
}

// Units for rows of a that lie in place.
Units units_in_place(int64_t m, int64_t n, int64_t k, int64_t threads) {
  const int64_t rows = panels_of(m), columns = panels_of(n);
  Units u;
  u.shared = m >= n && rows > 1 && threads > 0;
  int64_t height = most_panels(k);
  // A packed b that stays in the second cache is read again for each panel of rows, which comes
  // from memory; else the rows stay, and b passes by.
  if (u.shared) height = columns * steps_of(k) * kStepSize <= 2 * kLeftSize ? 1 : kUnitPanels;
  if (k > kChunk) height = std::min(height, kUnitPanels);
  u.rows = quotient(rows, height);
  if (k > kChunk) u.columns = quotient(columns, kBlocks / std::min(height, rows));
  if (u.shared)
    u.rows = std::min(rows, multiple(u.rows, threads));
  else
    u.columns = std::min(columns, multiple(u.columns, std::max<int64_t>(threads, 1)));
  return u;
}

// Units for a gradient of weights, or any matmul where a is transposed: sums are long, and both
// operands are packed in each unit.
Units units_transposed(int64_t m, int64_t n, int64_t k, int64_t threads) {
  const int64_t rows = panels_of(m), columns = panels_of(n);
  Units u;
  u.rows = quotient(rows, kUnitPanels), u.columns = quotient(columns, kUnitPanels);
  if (threads == 0) return u;
  // Parts cost a pass over c in f32 each, which may add an eighth to what the operands take.
  constexpr int64_t kLeast = 1024, kMost = 64;
  const int64_t cheap = k * (m + n) / (16 * m * n);
  u.parts =
      int64_t(std::bit_floor(uint64_t(std::clamp(std::min(cheap, k / kLeast), int64_t{1}, kMost))));
  while (u.count() % threads != 0 || u.count() < threads) {
    int64_t& side = rows / u.rows >= columns / u.columns ? u.rows : u.columns;
    const int64_t most = &side == &u.rows ? rows : columns;
    if (side == most) break;
    ++side;
  }
  return u;
}

// threads = 0: on the calling thread alone.
template <class C>
void run(const Matmul<C>& p, int64_t threads) {
  const Units u = p.a.transposed ? units_transposed(p.m, p.n, p.k, threads)
                                 : units_in_place(p.m, p.n, p.k, threads);
  Tensor packed, partial;
  const int64_t panel = steps_of(p.k) * kStepSize, blocks = panels_of(p.m) * panels_of(p.n);
  if (u.shared) {
    packed = empty({panels_of(p.n), panel}, Dtype::bf16);
    const int64_t steps = steps_of(p.k), by_terms = !p.b.transposed;
    parallel_for(by_terms ? steps : panels_of(p.n), 2, [&](int64_t begin, int64_t end) {
      bf16* const to = packed.data<bf16>();
      if (by_terms)
        pack<Side::right>(p.b, {0, p.n}, {begin * kTerms, std::min(p.k, end * kTerms)}, steps,
                          to + begin * kStepSize);
      else
        pack<Side::right>(p.b, {begin * kSide, std::min(p.n, end * kSide)}, {0, p.k}, steps,
                          to + begin * panel);
    });
  }
  if (u.parts > 1) partial = empty({u.parts, blocks * kBlockSize}, Dtype::f32);
  const auto work = [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t column = unit % u.columns, row = unit / u.columns % u.rows,
                    i = unit / u.columns / u.rows;
      multiply_unit(p, side_part(p.m, u.rows, row), side_part(p.n, u.columns, column),
                    side_part(p.k, u.parts, i), packed ? packed.data<bf16>() : nullptr,
                    partial ? partial.data<float>() + i * blocks * kBlockSize : nullptr);
    }
  };
  if (threads == 0) return work(0, u.count());
  parallel_for(u.count(), 1, work);
  if (partial) add_parts(p, partial.data<float>(), u.parts);
}

}  // namespace

template <class C>
void gemm(int64_t m, int64_t n, int64_t k, GemmOperand<bf16> a, GemmOperand<bf16> b, C* c,
          bool accumulate, const bf16* bias) {
  run(Matmul<C>{m, n, k, a, b, c, accumulate, bias}, num_threads());
}

template <class C>
void gemm_on_thread(int64_t m, int64_t n, int64_t k, GemmOperand<bf16> a, GemmOperand<bf16> b, C* c,
                    bool accumulate, const bf16* bias) {
  run(Matmul<C>{m, n, k, a, b, c, accumulate, bias}, 0);
}

#define SG_AMX_GEMM(C)                                                                          \
  template void gemm(int64_t, int64_t, int64_t, GemmOperand<bf16>, GemmOperand<bf16>, C*, bool, \
                     const bf16*);                                                              \
  template void gemm_on_thread(int64_t, int64_t, int64_t, GemmOperand<bf16>, GemmOperand<bf16>, \
                               C*, bool, const bf16*)
SG_AMX_GEMM(bf16);
SG_AMX_GEMM(float);
#undef SG_AMX_GEMM

}  // namespace sg::amx
