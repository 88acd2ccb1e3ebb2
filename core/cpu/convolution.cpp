#include "core/cpu/convolution.h"

#include "core/cpu/onednn.h"

namespace sg {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
using Forward = dnnl::convolution_forward;
using Input = dnnl::convolution_backward_data;

constexpr auto kAlgorithm = dnnl::algorithm::convolution_direct;

// A convolution in oneDNN's words. It names dimensions in the order NCHW, whatever their order in
// memory.
template <class S>
struct Problem {
  Desc x, y, bias, w, own_w;  // the layout of w is oneDNN's choice; own_w is ours
  dnnl::memory::dims strides, begin, end;
  onednn::Key sizes;

  Problem(const Windows& v, int64_t filters, bool with_bias)
      : x(desc({v.batch, v.channels, v.height, v.width}, Tag::nhwc)),
        y(desc({v.batch, filters, v.rows, v.columns}, Tag::nhwc)),
        bias(with_bias ? desc({filters}, Tag::a) : Desc()),
        w(desc({filters, v.channels, v.kernel_height, v.kernel_width}, Tag::any)),
        own_w(desc({filters, v.channels, v.kernel_height, v.kernel_width}, Tag::ohwi)),
        strides{v.stride, v.stride},
        begin{v.top, v.left},
        end{padding_end(v.rows, v.kernel_height, v.stride, v.height, v.top),
            padding_end(v.columns, v.kernel_width, v.stride, v.width, v.left)},
        sizes{0,        v.batch,   v.height, v.width,         v.channels,
              v.rows,   v.columns, filters,  v.kernel_height, v.kernel_width,
              v.stride, v.top,     v.left,   with_bias,       sizeof(S)} {}

  onednn::Key key(char task) const {
    onednn::Key k = sizes;
    k[0] = task;
    return k;
  }
  Forward::primitive_desc forward() const {
    return {{dnnl::prop_kind::forward_training, kAlgorithm, x, w, bias, y, strides, begin, end},
            onednn::Ready::attributes(),
            onednn::engine()};
  }
  // w is small, and changes at every training step: it is copied at each call.
  Tensor packed(char task, const S* from, const Desc& layout) const {
    return onednn::reordered(key(task), own_w, from, layout);
  }

 private:
  static Desc desc(const dnnl::memory::dims& dims, Tag tag) {
    return Desc(dims, onednn::data_type<S>, tag);
  }
  static int64_t padding_end(int64_t windows, int64_t kernel, int64_t stride, int64_t size,
                             int64_t begin) {
    return (windows - 1) * stride + kernel - size - begin;
  }
};

}  // namespace

template <class S>
void convolution(const Windows& v, int64_t filters, const S* x, const S* w, const S* bias, S* y) {
  const Problem<S> p(v, filters, bias);
  onednn::Ready& ready = onednn::cached(p.key('c'), [&] {
    const auto pd = p.forward();
    return onednn::Ready(Forward(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_SRC, p.x},
                          {DNNL_ARG_WEIGHTS, pd.weights_desc()},
                          {DNNL_ARG_BIAS, p.bias},
                          {DNNL_ARG_DST, p.y}});
  });
  const Tensor packed = p.packed('w', w, ready.layout(1));
  ready.run({x, packed.raw(), bias, y});
}

template void convolution(const Windows&, int64_t, const float*, const float*, const float*,
                          float*);
template void convolution(const Windows&, int64_t, const bf16*, const bf16*, const bf16*, bf16*);

void convolution_input(const Windows& v, int64_t filters, const bf16* dy, const bf16* w, bf16* dx) {
  const Problem<bf16> p(v, filters, false);
  onednn::Ready& ready = onednn::cached(p.key('i'), [&] {
    const Input::primitive_desc pd({kAlgorithm, p.x, p.w, p.y, p.strides, p.begin, p.end},
                                   onednn::Ready::attributes(), onednn::engine(), p.forward());
    return onednn::Ready(Input(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_DIFF_DST, p.y},
                          {DNNL_ARG_WEIGHTS, pd.weights_desc()},
                          {DNNL_ARG_DIFF_SRC, p.x}});
  });
  const Tensor packed = p.packed('j', w, ready.layout(1));
  ready.run({dy, packed.raw(), dx});
}

}  // namespace sg
