// Memory for the threads of a parallel loop, asked for before it: threads that ask within take one
// block or several, by chance, and a step that has warmed up would still ask the system at times.
#pragma once
#include <omp.h>

#include <algorithm>
#include <type_traits>

#include "core/acc_type.h"
#include "core/cpu/parallel.h"
#include "core/tensor.h"

namespace sg {

template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t size)
      : size_(size), memory_(empty({num_threads(), size}, dtype_of<T>())) {}
  T* mine() const { return memory_.data<T>() + omp_get_thread_num() * size_; }

 private:
  int64_t size_;
  Tensor memory_;
};

// Rows of sums that a kernel stores as S: each is summed in its own place where S is wide enough to
// sum in, else in scratch memory of the thread until store().
template <class S>
class RowSums {
  using T = AccType<S>;
  static constexpr bool kInPlace = std::is_same_v<S, T>;

 public:
  explicit RowSums(int64_t size) : size_(size), scratch_(kInPlace ? 0 : size) {}
  // Where to sum what goes to `row`.
  T* at(S* row) const {
    if constexpr (kInPlace)
      return row;
    else
      return scratch_.mine();
  }
  void store(S* row) const {
    if constexpr (!kInPlace)
      std::transform(scratch_.mine(), scratch_.mine() + size_, row, [](T v) { return S(v); });
  }

 private:
  int64_t size_;
  Scratch<T> scratch_;
};

}  // namespace sg
