#include "core/cpu/convolution.h"

#include "core/cpu/onednn.h"

namespace sg {

void convolution(const Windows& v, int64_t filters, const float* x, const float* w,
                 const float* bias, float* y) {
  using Desc = dnnl::memory::desc;
  using Tag = dnnl::memory::format_tag;
  using Convolution = dnnl::convolution_forward;
  const auto desc = [](dnnl::memory::dims dims, Tag tag) {
    return Desc(dims, dnnl::memory::data_type::f32, tag);
  };
  // oneDNN names dimensions in the order NCHW, whatever their order in memory.
  const Desc x_desc = desc({v.batch, v.channels, v.height, v.width}, Tag::nhwc);
  const Desc y_desc = desc({v.batch, filters, v.rows, v.columns}, Tag::nhwc);
  const Desc bias_desc = bias ? desc({filters}, Tag::a) : Desc();
  const dnnl::memory::dims w_dims{filters, v.channels, v.kernel_height, v.kernel_width};
  onednn::Key key{'c',      v.batch,   v.height, v.width,         v.channels,
                  v.rows,   v.columns, filters,  v.kernel_height, v.kernel_width,
                  v.stride, v.top,     v.left,   bias != nullptr};
  onednn::Ready& ready = onednn::cached(key, [&] {
    const auto end = [&](int64_t windows, int64_t kernel, int64_t size, int64_t begin) {
      return (windows - 1) * v.stride + kernel - size - begin;
    };
    const dnnl::memory::dims strides{v.stride, v.stride}, begin{v.top, v.left},
        padding_end{end(v.rows, v.kernel_height, v.height, v.top),
                    end(v.columns, v.kernel_width, v.width, v.left)};
    const Convolution::desc d(dnnl::prop_kind::forward_training,
                              dnnl::algorithm::convolution_direct, x_desc, desc(w_dims, Tag::any),
                              bias_desc, y_desc, strides, begin, padding_end);
    const Convolution::primitive_desc pd(d, onednn::Ready::attributes(), onednn::engine());
    return onednn::Ready(Convolution(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_SRC, x_desc},
                          {DNNL_ARG_WEIGHTS, pd.weights_desc()},
                          {DNNL_ARG_BIAS, bias_desc},
                          {DNNL_ARG_DST, y_desc}});
  });
  // The layout of the weights is oneDNN's choice. They are few, and change at every training step.
  key[0] = 'w';
  const Tensor packed = onednn::reordered(key, desc(w_dims, Tag::ohwi), w, ready.layout(1));
  ready.run({x, packed.raw(), bias, y});
}

}  // namespace sg
