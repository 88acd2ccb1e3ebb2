// Sums over a range that threads share: partial results, added in a fixed order.
#pragma once
#include "autograd/tape.h"
#include "core/cpu/add_into.h"
#include "core/cpu/parallel.h"

namespace sg {

// out (+)= sum over chunks of partial[chunk * stride .. + out.numel()), in order of chunk.
template <class T>
void sum_chunks(const T* partial, int chunks, int64_t stride, const Grad& out) {
  if (!out) return;
  T* const to = out.tensor.data<T>();
  parallel_for(out.tensor.numel(), 1 << 13, [&](int64_t begin, int64_t end) {
    if (!out.accumulate) std::fill(to + begin, to + end, T(0));
    for (int c = 0; c < chunks; ++c)
      add_into(partial + c * stride + begin, to + begin, end - begin);
  });
}

// Partial sums of one gradient, each made by one thread: the first in the gradient's own memory,
// the others in memory of their own, until finish() adds them in order.
template <class T>
class PartialGrads {
 public:
  PartialGrads(const Grad& out, int count) : out_(out), count_(count) {
    if (out && count > 1) rest_ = empty({count - 1, out.tensor.numel()}, dtype_of<T>());
  }
  T* operator[](int i) {
    return i == 0 ? out_.tensor.data<T>() : rest_.data<T>() + (i - 1) * out_.tensor.numel();
  }
  // Whether the first term is added to what the partial sum holds, or overwrites it.
  bool accumulate(int i) const { return i == 0 && out_.accumulate; }
  explicit operator bool() const { return bool(out_); }
  void finish() {
    if (rest_) sum_chunks(rest_.data<T>(), count_ - 1, out_.tensor.numel(), {out_.tensor, true});
  }

 private:
  Grad out_;
  int count_;
  Tensor rest_;
};

}  // namespace sg
