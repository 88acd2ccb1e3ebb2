#include "core/cpu/parallel.h"

#include <omp.h>

#include "core/error.h"

namespace sg {

int num_threads() { return omp_get_max_threads(); }

void set_num_threads(int n) {
  check(n >= 1, "threads: expected at least 1, found {}", n);
  omp_set_num_threads(n);
}

}  // namespace sg
