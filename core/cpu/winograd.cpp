#include "core/cpu/winograd.h"

#include <algorithm>

#include "core/cpu/one_thread.h"
#include "core/cpu/onednn.h"
#include "core/cpu/scratch.h"

namespace sg {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
using Forward = dnnl::convolution_forward;
using Input = dnnl::convolution_backward_data;
using Weights = dnnl::convolution_backward_weights;

constexpr auto kAlgorithm = dnnl::algorithm::convolution_winograd;
constexpr int64_t kBlock = 16;  // channels side by side in oneDNN's layout
const dnnl::memory::dims kOne{1, 1};

Desc desc(const dnnl::memory::dims& dims, Tag tag) {
  return Desc(dims, dnnl::memory::data_type::f32, tag);
}

// The dimensions of a convolution in oneDNN's order, NCHW.
struct Problem {
  dnnl::memory::dims x, y, w, bias;

  Problem(const Windows& v, int64_t filters)
      : x{v.batch, v.channels, v.height, v.width},
        y{v.batch, filters, v.rows, v.columns},
        w{filters, v.channels, 3, 3},
        bias{filters} {}

  onednn::Key key(char task) const { return {task, x[0], x[1], x[2], x[3], y[1]}; }
  Forward::primitive_desc forward(bool with_bias) const {
    const Forward::desc d(dnnl::prop_kind::forward_training, kAlgorithm, desc(x, Tag::nChw16c),
                          desc(w, Tag::any), with_bias ? desc(bias, Tag::a) : Desc(),
                          desc(y, Tag::nChw16c), kOne, kOne, kOne);
    return {d, onednn::Ready::attributes(), onednn::engine(), true};
  }
  // Maps and weights to oneDNN's layouts, and back.
  Tensor blocked(char map, const dnnl::memory::dims& dims, const float* data) const {
    return onednn::reordered(key(map), desc(dims, Tag::nhwc), data, desc(dims, Tag::nChw16c));
  }
  void unblock(char map, const dnnl::memory::dims& dims, const Tensor& from, float* data) const {
    onednn::reorder(key(map), desc(dims, Tag::nChw16c), from.raw(), desc(dims, Tag::nhwc), data);
  }
};

bool fits(const Windows& v, int64_t filters) {
  return v.kernel_height == 3 && v.kernel_width == 3 && v.stride == 1 && v.top == 1 &&
         v.left == 1 && v.rows == v.height && v.columns == v.width && v.channels % kBlock == 0 &&
         filters % kBlock == 0;
}

}  // namespace

bool winograd(const Windows& v, int64_t filters, const float* x, const float* w, const float* bias,
              float* y) {
  if (!fits(v, filters)) return false;
  const Problem p(v, filters);
  onednn::Ready& ready = onednn::cached(p.key(bias ? 'B' : 'F'), [&] {
    const auto pd = p.forward(bias != nullptr);
    if (!pd) return onednn::Ready();
    return onednn::Ready(Forward(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_SRC, pd.src_desc()},
                          {DNNL_ARG_WEIGHTS, pd.weights_desc()},
                          {DNNL_ARG_BIAS, pd.bias_desc()},
                          {DNNL_ARG_DST, pd.dst_desc()}});
  });
  if (!ready) return false;
  const Tensor y_blocked = onednn::memory_for(ready.layout(3));
  {
    const Tensor x_blocked = p.blocked('x', p.x, x);
    const Tensor packed = onednn::reordered(p.key('f'), desc(p.w, Tag::ohwi), w, ready.layout(1));
    ready.run({x_blocked.raw(), packed.raw(), bias, y_blocked.raw()});
  }
  p.unblock('y', p.y, y_blocked, y);
  return true;
}

bool winograd_input(const Windows& v, int64_t filters, const float* dy, const float* w, float* dx) {
  if (!fits(v, filters)) return false;
  const Problem p(v, filters);
  onednn::Ready& ready = onednn::cached(p.key('I'), [&] {
    const auto forward = p.forward(false);
    if (!forward) return onednn::Ready();
    const Input::desc d(kAlgorithm, desc(p.x, Tag::nChw16c), desc(p.w, Tag::any),
                        desc(p.y, Tag::nChw16c), kOne, kOne, kOne);
    const Input::primitive_desc pd(d, onednn::Ready::attributes(), onednn::engine(), forward, true);
    if (!pd) return onednn::Ready();
    return onednn::Ready(Input(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_DIFF_DST, pd.diff_dst_desc()},
                          {DNNL_ARG_WEIGHTS, pd.weights_desc()},
                          {DNNL_ARG_DIFF_SRC, pd.diff_src_desc()}});
  });
  if (!ready) return false;
  const Tensor dx_blocked = onednn::memory_for(ready.layout(2));
  {
    const Tensor dy_blocked = p.blocked('d', p.y, dy);
    const Tensor packed = onednn::reordered(p.key('i'), desc(p.w, Tag::ohwi), w, ready.layout(1));
    ready.run({dy_blocked.raw(), packed.raw(), dx_blocked.raw()});
  }
  p.unblock('e', p.x, dx_blocked, dx);
  return true;
}

bool winograd_weights(const Windows& v, int64_t filters, const float* dy, const float* x,
                      float* dw) {
  if (!fits(v, filters)) return false;
  // How oneDNN sums over images depends on the number of threads. So each call takes one image on
  // one thread, and we sum over images: in a fixed number of parts, added in order.
  constexpr int64_t kMaxParts = 8;
  Windows image = v;
  image.batch = 1;
  const Problem all(v, filters), p(image, filters);
  const auto prepared = [&]() -> onednn::Ready& {
    return onednn::cached(p.key('W'), [&] {
      const auto forward = p.forward(false);
      if (!forward) return onednn::Ready();
      const Weights::desc d(kAlgorithm, desc(p.x, Tag::nChw16c), desc(p.w, Tag::any),
                            desc(p.y, Tag::nChw16c), kOne, kOne, kOne);
      const Weights::primitive_desc pd(d, onednn::Ready::attributes(), onednn::engine(), forward,
                                       true);
      if (!pd) return onednn::Ready();
      return onednn::Ready(Weights(pd), pd.scratchpad_desc(),
                           {{DNNL_ARG_DIFF_DST, pd.diff_dst_desc()},
                            {DNNL_ARG_SRC, pd.src_desc()},
                            {DNNL_ARG_DIFF_WEIGHTS, pd.diff_weights_desc()}});
    });
  };
  Desc layout;
  int64_t scratch_bytes = 0;
  {
    const OneThread one;
    const onednn::Ready& ready = prepared();
    if (!ready) return false;
    layout = ready.layout(2), scratch_bytes = int64_t(ready.scratch_bytes());
  }
  const auto size = int64_t(layout.get_size() / sizeof(float));
  const int64_t parts = std::min(v.batch, kMaxParts);
  const Tensor dy_blocked = all.blocked('d', all.y, dy), x_blocked = all.blocked('x', all.x, x);
  Tensor sums = empty({parts, size});
  Scratch<uint8_t> scratch((scratch_bytes + 4095) / 4096 * 4096);  // aligned for each thread
  Scratch<float> last(size);
  const auto* const dy_images = reinterpret_cast<const float*>(dy_blocked.raw());
  const auto* const x_images = reinterpret_cast<const float*>(x_blocked.raw());
  const auto add = [&](float* to, const float* from, int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) to[i] += from[i];
  };
  parallel_for(parts, 1, [&](int64_t first_part, int64_t last_part) {
    const OneThread one;
    onednn::Ready& ready = prepared();
    for (int64_t part = first_part; part < last_part; ++part) {
      float* const sum = sums.data<float>() + part * size;
      const int64_t first = v.batch * part / parts;
      for (int64_t b = first; b < v.batch * (part + 1) / parts; ++b) {
        float* const to = b == first ? sum : last.mine();
        ready.run({dy_images + b * filters * v.rows * v.columns,
                   x_images + b * v.channels * v.height * v.width, to},
                  scratch.mine());
        if (b != first) add(sum, to, 0, size);
      }
    }
  });
  float* const total = sums.data<float>();
  parallel_for(size, 1 << 13, [&](int64_t begin, int64_t end) {
    for (int64_t part = 1; part < parts; ++part) add(total, total + part * size, begin, end);
  });
  onednn::reorder(p.key('g'), layout, total, desc(p.w, Tag::ohwi), dw);
  return true;
}

}  // namespace sg
