// Scratch memory with a part for each thread of a parallel loop, allocated before the loop. If the
// threads allocated inside it, how many blocks are taken at once would depend on timing, and a
// warmed-up step would still allocate at times.
#pragma once
#include <omp.h>

#include <type_traits>

#include "core/acc_type.h"
#include "core/cpu/convert.h"
#include "core/cpu/parallel.h"
#include "core/tensor.h"

namespace sg {

template <class T>
class Scratch {
 public:
  // `size` elements, in whole cache lines, for each thread of a loop over so many indices.
  explicit Scratch(int64_t size, int64_t indices = INT64_MAX)
      : size_((size + kLine - 1) / kLine * kLine),
        memory_(empty({std::min<int64_t>(num_threads(), indices), size_}, dtype_of<T>())) {}
  T* mine() { return memory_.data<T>() + omp_get_thread_num() * size_; }

 private:
  static constexpr int64_t kLine = 64 / sizeof(T);
  int64_t size_;
  Tensor memory_;
};

// Sums that a kernel stores as S, a row of at most `size` elements at a time: summed where they are
// stored if S is wide enough to sum in, else in scratch memory of the thread until store().
template <class S>
class RowSums {
  using T = AccType<S>;
  static constexpr bool kInPlace = std::is_same_v<S, T>;

 public:
  explicit RowSums(int64_t size) : scratch_(kInPlace ? 0 : size) {}
  // Where to sum what goes to `row`.
  T* at(S* row) {
    if constexpr (kInPlace)
      return row;
    else
      return scratch_.mine();
  }
  // The sums begin with the n elements that `row` holds.
  void load(const S* row, int64_t n) {
    if constexpr (!kInPlace) convert(row, scratch_.mine(), n);
  }
  void store(S* row, int64_t n) {
    if constexpr (!kInPlace) convert(scratch_.mine(), row, n);
  }

 private:
  Scratch<T> scratch_;
};

}  // namespace sg
