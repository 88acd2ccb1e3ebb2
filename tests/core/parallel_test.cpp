#include "core/cpu/parallel.h"

#include <doctest/doctest.h>

#include <vector>

#include "core/error.h"

using namespace sg;

TEST_CASE("parallel_for: every index once, and an error reaches the caller") {
  const int before = num_threads();
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    for (const int64_t n : {0, 1, 2, 3, 100}) {
      std::vector<int> count(size_t(n), 0);
      parallel_for(n, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++count[size_t(i)];
      });
      CHECK(count == std::vector<int>(size_t(n), 1));
    }
    CHECK_THROWS_WITH_AS(
        parallel_for(100, 1, [](int64_t, int64_t) { fail(ExitCode::failure, "no"); }), "no", Error);
  }
  set_num_threads(before);
}
