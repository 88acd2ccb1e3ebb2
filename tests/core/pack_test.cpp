#include "core/cpu/pack.h"

#include <doctest/doctest.h>

#include <vector>

#include "core/cpu/parallel.h"

using namespace sg;

TEST_CASE("pack: pairs of rows in blocks of columns, and zeros around") {
  struct Case {
    int64_t k, n;
  };
  const int before = num_threads();
  for (const Case& c : {Case{64, 128}, Case{32, 64}, Case{1, 1}, Case{31, 20}, Case{27, 48},
                        Case{100, 63}, Case{45, 1000}, Case{257, 130}})
    for (const bool transposed : {false, true})
      for (const int64_t gap : {0, 3})
        for (const int threads : {1, 3}) {
          CAPTURE(c.k);
          CAPTURE(c.n);
          CAPTURE(transposed);
          set_num_threads(threads);
          const int64_t stride = (transposed ? c.k : c.n) + gap;
          std::vector<bf16> b(size_t(stride * (transposed ? c.n : c.k)));
          for (size_t i = 0; i < b.size(); ++i) b[i] = bf16(float(1 + i * i % 251));
          const PackedLayout layout{c.k, c.n};
          const int64_t width = layout.width(), size = layout.block_size();
          REQUIRE(layout.blocks() * width >= c.n);
          std::vector<bf16> packed(size_t(layout.blocks() * size), bf16(7.f));
          pack(layout, {b.data(), stride, transposed}, packed.data());
          int64_t wrong = 0;
          for (int64_t i = 0; i < layout.blocks() * size; ++i) {
            const int64_t in_block = i % size, row = in_block / (2 * width) * 2 + in_block % 2,
                          column = i / size * width + in_block % (2 * width) / 2;
            const bool inside = row < c.k && column < c.n;
            const float expected =
                inside
                    ? float(b[size_t(transposed ? column * stride + row : row * stride + column)])
                    : 0.f;
            wrong += float(packed[size_t(i)]) != expected;
          }
          CHECK(wrong == 0);
        }
  set_num_threads(before);
}
