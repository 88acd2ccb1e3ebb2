// Memory for the threads of a parallel loop, asked for before it: threads that ask within take one
// block or several, by chance, and a step that has warmed up would still ask the system at times.
#pragma once
#include <omp.h>

#include "core/cpu/parallel.h"
#include "core/tensor.h"

namespace sg {

template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t size)
      : size_(size), memory_(empty({num_threads(), size}, dtype_of<T>())) {}
  T* mine() { return memory_.data<T>() + omp_get_thread_num() * size_; }

 private:
  int64_t size_;
  Tensor memory_;
};

}  // namespace sg
