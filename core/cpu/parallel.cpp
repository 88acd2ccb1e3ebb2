#include "core/cpu/parallel.h"

#include <omp.h>

#include <algorithm>

#include "core/error.h"

namespace sg {

int num_threads() { return omp_get_max_threads(); }

void set_num_threads(int n) {
  check(n >= 1, "threads: expected at least 1, found {}", n);
  omp_set_num_threads(std::min(n, omp_get_thread_limit()));
}

namespace {
// oneDNN divides its work among omp_get_max_threads(), which OMP_THREAD_LIMIT does not lower: the
// parts of the threads that are refused would stay undone.
[[maybe_unused]] const bool limited =
    (omp_set_num_threads(std::min(omp_get_max_threads(), omp_get_thread_limit())), true);
}  // namespace

}  // namespace sg
