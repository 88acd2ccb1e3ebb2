// Bound by exp: one a class and pixel each way. Logits are interpolated between two rows of the map
// once for each row of labels (in a row of the map's width), and between two of its columns where
// they are used.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/pixel_cross_entropy/pixel_cross_entropy_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/bilinear_resize/axis.h"
#include "ops/class_rows-inl.h"
#include "ops/pixel_cross_entropy/pixel_cross_entropy.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

template <class S>
struct Problem {
  using T = AccType<S>;
  const S* logits;
  const uint8_t* labels;
  int64_t batch, h, w, classes, padded, height, width;
  BilinearAxis rows, columns;
  int ignore;
  struct Place {  // between two columns of the map
    unsigned at, next;
    T t;
  };
  std::vector<Place> places;  // of the columns of labels

  Problem(In logits, In labels, int ignore)
      : logits(logits.data<S>()),
        labels(labels.data<uint8_t>()),
        batch(logits.dim(0)),
        h(logits.dim(1)),
        w(logits.dim(2)),
        classes(logits.dim(3)),
        padded(padded_classes<T>(classes)),
        height(labels.dim(1)),
        width(labels.dim(2)),
        rows{unsigned(h), unsigned(height)},
        columns{unsigned(w), unsigned(width)},
        ignore(ignore) {
    for (unsigned x = 0; x < columns.out; ++x) {
      const unsigned at = columns.at(x);
      places.push_back({at, columns.next(at), columns.t<T>(x, at)});
    }
  }
  // mixed (w, padded), whose padding is there: the map at row y of the labels of image b, that
  // reads row `at` of the map and the next one.
  void mix_rows(int64_t b, unsigned at, unsigned y, T* mixed) const {
    const S* const upper = logits + (b * h + at) * w * classes;
    const S* const lower = logits + (b * h + rows.next(at)) * w * classes;
    const T t = rows.t<T>(y, at);
    for (int64_t x = 0; x < w; ++x)
      for_lanes<T>(classes, [&](auto d, int64_t i) HWY_ATTR {
        const auto a = load(d, upper + x * classes + i), b = load(d, lower + x * classes + i);
        hn::StoreU(hn::MulAdd(hn::Set(d, t), hn::Sub(b, a), a), d, mixed + x * padded + i);
      });
  }
};

// The largest logit of `n`, or NaN where one is not finite.
template <class T>
HWY_INLINE T top_of(const T* z, int64_t n) {
  const hn::ScalableTag<T> d;
  auto top = hn::Set(d, kClassPad<T>), zero = hn::Zero(d);
  for (int64_t i = 0; i < n; i += int64_t(hn::Lanes(d))) {
    const auto v = hn::LoadU(d, z + i);
    top = hn::Max(top, v), zero = hn::Add(zero, hn::Sub(v, v));
  }
  return hn::GetLane(hn::MaxOfLanes(d, top)) + hn::GetLane(hn::SumOfLanes(d, zero));
}

// Where a pixel lies between two columns of mixed rows, each of n logits.
template <class T>
struct Between {
  const T *left, *right;
  T t;
  T at(int64_t i) const { return left[i] + t * (right[i] - left[i]); }
  HWY_INLINE T exp_sum(int64_t n, T top) const {
    const hn::ScalableTag<T> d;
    const auto tv = hn::Set(d, t), shift = hn::Set(d, top);
    auto sum = hn::Zero(d);
    for (int64_t i = 0; i < n; i += int64_t(hn::Lanes(d))) {
      const auto l = hn::LoadU(d, left + i), r = hn::LoadU(d, right + i);
      sum = hn::Add(sum, exp(d, hn::MulAdd(tv, hn::Sub(r, l), hn::Sub(l, shift))));
    }
    return hn::GetLane(hn::SumOfLanes(d, sum));
  }
};

void forward(Stream&, In logits, In labels, int ignore, Out softmax, Out loss) {
  dispatch<float, double, bf16>(logits.dtype(), "pixel_cross_entropy", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const Problem<S> p(logits, labels, ignore);
    Tensor row_losses = empty({p.batch * p.height}, Dtype::f64);
    double* const losses = row_losses.data<double>();
    Scratch<T> scratch(p.w * (p.padded + 1) + 2 * p.width);
    parallel_for(p.batch * p.height, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      T *const mixed = scratch.mine(), *const tops = mixed + p.w * p.padded;
      T *const below = tops + p.w, *const sums = below + p.width;  // of pixels that count
      std::fill_n(mixed, p.w * p.padded, kClassPad<T>);
      for (int64_t row = begin; row < end; ++row) {
        const int64_t b = row / p.height, y = row % p.height;
        p.mix_rows(b, p.rows.at(unsigned(y)), unsigned(y), mixed);
        for (int64_t x = 0; x < p.w; ++x) tops[x] = top_of(mixed + x * p.padded, p.padded);
        int64_t count = 0;
        for (int64_t x = 0; x < p.width; ++x) {
          const int label = p.labels[row * p.width + x];
          if (label == p.ignore) continue;
          if (label >= p.classes)
            fail(ExitCode::data,
                 "pixel_cross_entropy: label {} in row {}, column {} of image {} of the batch is "
                 "neither below {}, the number of classes, nor {}, which is ignored",
                 label, y, x, b, p.classes, p.ignore);
          const auto [at, next, t] = p.places[size_t(x)];
          const Between<T> z{mixed + at * p.padded, mixed + next * p.padded, t};
          // Between the two tops is never below the largest logit; where it is far above, that one
          // itself is found.
          T top = tops[at] + z.t * (tops[next] - tops[at]);
          T sum = z.exp_sum(p.padded, top);
          if (sum < T(1e-20) && !std::isnan(top)) {
            top = z.at(0);
            for (int64_t i = 1; i < p.classes; ++i) top = std::max(top, z.at(i));
            sum = z.exp_sum(p.padded, top);
          }
          if (std::isnan(top)) sum = top;  // the vector exp of a NaN is 0
          below[count] = top - z.at(label), sums[count++] = sum;
          if (softmax) {
            T* const keep = softmax.data<T>() + 2 * (row * p.width + x);
            keep[0] = top, keep[1] = 1 / sum;
          }
        }
        losses[row] = double(sum_lanes<T>(count, [&](auto d, int64_t i) HWY_ATTR {
          return hn::Add(hn::LoadU(d, below + i), hn::Log(d, hn::LoadU(d, sums + i)));
        }));
      }
    });
    double total = 0;
    for (int64_t row = 0; row < p.batch * p.height; ++row) total += losses[row];
    *loss.data<T>() = T(total / double(labels.numel()));
  });
}

// Each row of dlogits is summed by one thread: what the rows of labels between the row of the map
// above and this one give it, then those between this one and the next.
template <class S>
class Rows {
  using T = AccType<S>;

 public:
  // memory: size(p), in whole vectors.
  Rows(const Problem<S>& p, const T* softmax, T* memory)
      : p_(p),
        softmax_(softmax),
        mixed_(memory),
        across_(mixed_ + p.w * p.padded),
        current_(across_ + p.w * p.padded),
        next_(current_ + p.w * p.padded),
        pixels_(next_ + p.w * p.padded) {
    std::fill_n(mixed_, p.w * p.padded, kClassPad<T>);
    std::fill_n(current_, 2 * p.w * p.padded, T(0));
  }
  static int64_t size(const Problem<S>& p) { return 4 * p.w * p.padded + 3 * p.width; }
  const T* current() const { return current_; }
  // Adds what the labels between row `at` of the map and the next one give to both.
  void add(int64_t b, unsigned at) {
    T* const lower = p_.rows.next(at) == at ? current_ : next_;
    for (unsigned y = p_.rows.first(at); y < p_.rows.first(at + 1); ++y) {
      p_.mix_rows(b, at, y, mixed_);
      for (unsigned x = 0; x < p_.columns.in; ++x) add_columns((b * p_.height + y) * p_.width, x);
      const T t = p_.rows.template t<T>(y, at);
      for_lanes<T>(p_.w * p_.padded, [&](auto d, int64_t i) HWY_ATTR {
        const auto v = hn::LoadU(d, across_ + i);
        hn::StoreU(hn::MulAdd(v, hn::Set(d, 1 - t), hn::LoadU(d, current_ + i)), d, current_ + i);
        hn::StoreU(hn::MulAdd(v, hn::Set(d, t), hn::LoadU(d, lower + i)), d, lower + i);
      });
    }
  }
  void step() {  // to the next row of the map
    std::swap(current_, next_);
    std::fill_n(next_, p_.w * p_.padded, T(0));
  }

 private:
  // across_ = the gradient of mixed_, by pixels between column `at` and the next one.
  void add_columns(int64_t row, unsigned at) {
    const unsigned next = p_.columns.next(at);
    int64_t count = 0;
    for (unsigned x = p_.columns.first(at); x < p_.columns.first(at + 1); ++x) {
      if (p_.labels[row + x] == p_.ignore) continue;
      T* const pixel = pixels_ + 3 * count++;
      pixel[0] = p_.places[x].t;
      pixel[1] = softmax_[2 * (row + x)], pixel[2] = softmax_[2 * (row + x) + 1];
    }
    const T *const left = mixed_ + at * p_.padded, *const right = mixed_ + next * p_.padded;
    T *const to_left = across_ + at * p_.padded, *const to_right = across_ + next * p_.padded;
    const hn::ScalableTag<T> d;
    for (int64_t i = 0; i < p_.padded; i += int64_t(hn::Lanes(d))) {
      const auto l = hn::LoadU(d, left + i), slope = hn::Sub(hn::LoadU(d, right + i), l);
      auto left_sum = at == 0 ? hn::Zero(d) : hn::LoadU(d, to_left + i), right_sum = hn::Zero(d);
      for (const T* pixel = pixels_; pixel < pixels_ + 3 * count; pixel += 3) {
        const auto t = hn::Set(d, pixel[0]);
        const auto z = hn::MulAdd(t, slope, hn::Sub(l, hn::Set(d, pixel[1])));
        const auto probability = hn::Mul(exp(d, z), hn::Set(d, pixel[2]));
        const auto part = hn::Mul(t, probability);
        left_sum = hn::Add(left_sum, hn::Sub(probability, part));
        right_sum = hn::Add(right_sum, part);
      }
      if (at == next) {
        hn::StoreU(hn::Add(left_sum, right_sum), d, to_left + i);
      } else {
        hn::StoreU(left_sum, d, to_left + i), hn::StoreU(right_sum, d, to_right + i);
      }
    }
    for (unsigned x = p_.columns.first(at); x < p_.columns.first(at + 1); ++x) {
      const int label = p_.labels[row + x];
      if (label == p_.ignore) continue;
      const T t = p_.places[x].t;
      to_left[label] -= 1 - t, to_right[label] -= t;
    }
  }

  const Problem<S>& p_;
  const T* softmax_;
  T *mixed_, *across_, *current_, *next_;
  T* pixels_;  // of those that count: t, and the two numbers of softmax
};

void backward(Stream&, In dloss, In logits, In labels, int ignore, In softmax, Grad dlogits) {
  if (!dlogits) return;
  dispatch<float, double, bf16>(logits.dtype(), "pixel_cross_entropy", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const Problem<S> p(logits, labels, ignore);
    const T scale = *dloss.data<T>() / T(labels.numel());
    Scratch<T> scratch(Rows<S>::size(p));
    parallel_for(p.batch * p.h, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      Rows<S> rows(p, softmax.data<T>(), scratch.mine());
      if (begin % p.h != 0) rows.add(begin / p.h, unsigned(begin % p.h) - 1), rows.step();
      for (int64_t r = begin; r < end; ++r, rows.step()) {
        rows.add(r / p.h, unsigned(r % p.h));
        for (int64_t x = 0; x < p.w; ++x) {
          S* const to = dlogits.tensor.data<S>() + (r * p.w + x) * p.classes;
          const T* const from = rows.current() + x * p.padded;
          for_lanes<T>(p.classes, [&](auto d, int64_t i) HWY_ATTR {
            auto v = hn::Mul(hn::LoadU(d, from + i), hn::Set(d, scale));
            if (dlogits.accumulate) v = hn::Add(v, load(d, to + i));
            store(v, d, to + i);
          });
        }
      }
    });
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::pixel_cross_entropy_fwd, forward);
SG_REGISTER_SIMD(kernels::pixel_cross_entropy_bwd, backward);
}  // namespace
}  // namespace sg
#endif
