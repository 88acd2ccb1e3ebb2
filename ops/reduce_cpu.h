// Sums over a range that threads share: partial results, added in a fixed order.
#pragma once
#include "autograd/tape.h"
#include "core/cpu/parallel.h"

namespace sg {

// out (+)= sum over chunks of partial[chunk * stride .. + out.numel()), in order of chunk.
template <class T>
void sum_chunks(const T* partial, int chunks, int64_t stride, const Grad& out) {
  if (!out) return;
  T* const to = out.tensor.data<T>();
  parallel_for(out.tensor.numel(), 1 << 13, [&](int64_t begin, int64_t end) {
    if (!out.accumulate) std::fill(to + begin, to + end, T(0));
    for (int c = 0; c < chunks; ++c) {
      const T* const from = partial + c * stride;
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    }
  });
}

// A gradient to which several threads add, each its own part: part 0 in place, the others in
// memory of their own until finish().
template <class T>
class Parts {
 public:
  Parts(const Grad& out, int parts) : out_(out), parts_(parts) {
    if (out && parts > 1) rest_ = empty({parts - 1, out.tensor.numel()}, dtype_of<T>());
  }
  T* operator[](int part) {
    return part == 0 ? out_.tensor.data<T>() : rest_.data<T>() + (part - 1) * out_.tensor.numel();
  }
  // Is there a sum to add the first term of the part to?
  bool begun(int part) const { return part == 0 && out_.accumulate; }
  explicit operator bool() const { return bool(out_); }
  void finish() const {
    if (rest_) sum_chunks(rest_.data<T>(), parts_ - 1, out_.tensor.numel(), {out_.tensor, true});
  }

 private:
  Grad out_;
  int parts_;
  Tensor rest_;
};

}  // namespace sg
