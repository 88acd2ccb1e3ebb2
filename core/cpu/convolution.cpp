#include "core/cpu/convolution.h"

#include <algorithm>

#include "core/cpu/add_into.h"
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
        end{v.bottom(), v.right()},
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

namespace {

// Images [first, last), and of each the windows' rows [begin, end). Rows are cut in one image only.
struct Piece {
  int64_t first, last, begin, end;
};

// How dw is cut: into calls of oneDNN, which copies the maps of a call's image to a layout of its
// own, so that these should stay in a core's cache; and into parts, each some calls in a row with a
// sum of its own. A call adds dw, so it has at least as many bytes of maps.
struct Pieces {
  const Windows& v;
  int64_t groups, bands;  // of images, of the rows of one image
  int64_t parts;

  Pieces(const Windows& windows, int64_t filters) : v(windows) {
    constexpr int64_t kMostParts = 8, kMostOfLarge = 4, kLarge = 16 << 20;  // bytes
    constexpr int64_t kLeastWindows = 256, kMapBytes = 768 << 10;
    const int64_t dw_bytes = filters * v.size() * int64_t(sizeof(float));
    const int64_t most = dw_bytes > kLarge ? kMostOfLarge : kMostParts;
    const int64_t wanted =
        std::clamp(v.batch * v.rows * v.columns / kLeastWindows, int64_t{1}, most);
    const int64_t image_bytes =
        (v.height * v.width * v.channels + v.rows * v.columns * filters) * int64_t(sizeof(bf16));
    const int64_t bytes = std::min(std::max(kMapBytes, dw_bytes), v.batch * image_bytes / wanted);
    const int64_t images = std::clamp<int64_t>(bytes / image_bytes, 1, v.batch);
    groups = (v.batch + images - 1) / images;
    bands = std::clamp<int64_t>((image_bytes + bytes - 1) / bytes, 1, v.rows);
    parts = std::min(wanted, size());
  }
  int64_t size() const { return groups * bands; }
  Piece operator[](int64_t i) const {
    const int64_t group = i / bands, band = i % bands;
    return {v.batch * group / groups, v.batch * (group + 1) / groups, v.rows * band / bands,
            v.rows * (band + 1) / bands};
  }
};

// The piece as a convolution of its own, of the rows of x that it reads; `top` is the first.
Windows windows_of(const Windows& v, const Piece& piece, int64_t& top) {
  Windows own = v;
  own.batch = piece.last - piece.first;
  own.rows = piece.end - piece.begin;
  top = std::max<int64_t>(0, piece.begin * v.stride - v.top);
  own.top = top - (piece.begin * v.stride - v.top);
  if (piece.end < v.rows)
    own.height = std::min(v.height, (piece.end - 1) * v.stride - v.top + v.kernel_height);
  own.height -= top;
  return own;
}

onednn::Ready& weights_of(const Windows& v, int64_t filters) {
  const Problem<bf16> p(v, filters, false);
  return onednn::cached(p.key('v'), [&] {
    const Desc any(p.w.dims(), dnnl::memory::data_type::f32, Tag::any);
    const Weights::primitive_desc pd({kAlgorithm, p.x, any, p.y, p.strides, p.begin, p.end},
                                     onednn::Ready::attributes(), onednn::engine(), p.forward());
    return onednn::Ready(Weights(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_SRC, p.x},
                          {DNNL_ARG_DIFF_DST, p.y},
                          {DNNL_ARG_DIFF_WEIGHTS, pd.diff_weights_desc()}});
  });
}

// What oneDNN asks of all pieces.
struct WeightsPlan {
  Desc layout;  // of dw: its choice depends on the sides of w, which are the same for all
  size_t scratch_bytes = 0;

  WeightsPlan(const Pieces& pieces, int64_t filters) {
    const OneThread one;
    for (int64_t i = 0, top; i < pieces.size(); ++i) {
      const onednn::Ready& ready = weights_of(windows_of(pieces.v, pieces[i], top), filters);
      check(i == 0 || ready.layout(2) == layout, "conv2d: partial sums differ in their layout");
      layout = ready.layout(2);
      scratch_bytes = std::max(scratch_bytes, ready.scratch_bytes());
    }
  }
};

}  // namespace

void convolution_weights(const Windows& v, int64_t filters, const bf16* dy, const bf16* x,
                         float* dw) {
  const Pieces pieces(v, filters);
  const Problem<bf16> p(v, filters, false);
  const auto& [layout, scratch_bytes] =
      onednn::cached(p.key('p'), [&] { return WeightsPlan(pieces, filters); });
  const int64_t parts = pieces.parts, size = int64_t(layout.get_size() / sizeof(float));
  Tensor sums = empty({parts, size}, Dtype::f32);
  Scratch<uint8_t> scratch(int64_t(scratch_bytes), parts);
  Scratch<float> terms(pieces.size() > parts ? size : 0, parts);
  parallel_for(parts, 1, [&](int64_t first_part, int64_t last_part) {
    const OneThread one;
    for (int64_t part = first_part; part < last_part; ++part) {
      float* const sum = sums.data<float>() + part * size;
      const int64_t begin = pieces.size() * part / parts;
      for (int64_t i = begin, top; i < pieces.size() * (part + 1) / parts; ++i) {
        const Piece piece = pieces[i];
        onednn::Ready& ready = weights_of(windows_of(v, piece, top), filters);
        float* const to = i == begin ? sum : terms.mine();
        ready.run({x + (piece.first * v.height + top) * v.width * v.channels,
                   dy + (piece.first * v.rows + piece.begin) * v.columns * filters, to},
                  scratch.mine());
        if (i > begin) add_into(to, sum, size);
      }
    }
  });
  float* const sum = sums.data<float>();
  parallel_for(size, 1 << 13, [&](int64_t begin, int64_t end) {
    for (int64_t part = 1; part < parts; ++part)
      add_into(sum + part * size + begin, sum + begin, end - begin);
  });
  onednn::reorder(p.key('V'), layout, sum,
                  Desc(p.w.dims(), dnnl::memory::data_type::f32, Tag::ohwi), dw);
}

}  // namespace sg
