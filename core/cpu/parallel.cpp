#include "core/cpu/parallel.h"

#include <omp.h>

#include <algorithm>
#include <cstdlib>

#include "core/cpu/cores.h"
#include "core/error.h"

namespace sg {

int num_threads() { return omp_get_max_threads(); }

void set_num_threads(int n) {
  check(n >= 1, "threads: expected at least 1, found {}", n);
  omp_set_num_threads(std::min(n, omp_get_thread_limit()));
}

namespace {

const Cores cores = usable_cores();

// oneDNN divides its work among omp_get_max_threads(), which OMP_THREAD_LIMIT does not lower: the
// parts of the threads that are refused would stay undone.
[[maybe_unused]] const bool limited = [] {
  const int wanted = std::getenv("OMP_NUM_THREADS") ? omp_get_max_threads() : cores.usable;
  set_num_threads(wanted);
  return true;
}();

}  // namespace

std::string limit_of_threads() {
  if (cores.limit.empty() || num_threads() != cores.usable) return "";
  return fmt::format("{} of {} cores: {}", cores.usable, cores.of, cores.limit);
}

}  // namespace sg
