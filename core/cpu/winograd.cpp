#include "core/cpu/winograd.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/cpu/add_into.h"
#include "core/cpu/convert.h"
#include "core/cpu/one_thread.h"
#include "core/cpu/onednn.h"
#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"

namespace sg {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
using Forward = dnnl::convolution_forward;
using Weights = dnnl::convolution_backward_weights;

constexpr auto kAlgorithm = dnnl::algorithm::convolution_winograd;
constexpr int64_t kBlock = 16;          // channels side by side in oneDNN's layout
constexpr int64_t kTile = 4;            // rows and columns of results
constexpr int64_t kTileBytes = 36 * 4;  // a tile, transformed, of one channel of x or y
// Gradient of the weights: at most so many filters and channels, and tiles, at a time.
constexpr int64_t kFilters = 512, kChannels = 256, kTiles = 256;
const dnnl::memory::dims kOne{1, 1};

template <class S = float>
Desc desc(const dnnl::memory::dims& dims, Tag tag) {
  return Desc(dims, onednn::data_type<S>, tag);
}

// Images [image, image + images) of a batch, rows [row, row + rows) of y in each: all, unless there
// is one image. They need a row of x more on each side, where it is not a row of zeros.
struct Piece {
  int64_t image, images, row, rows, zeros_above, zeros_below;
  int64_t first_row() const { return row - 1 + zeros_above; }
  int64_t x_rows() const { return rows + 2 - zeros_above - zeros_below; }
};

// Pieces of at most `most` tiles, or of one row of tiles. All but the last of an image are alike.
std::vector<Piece> pieces_of(const Windows& v, int64_t most) {
  const int64_t tile_rows = (v.height + kTile - 1) / kTile;
  const int64_t tile_columns = (v.width + kTile - 1) / kTile;
  const auto evenly = [](int64_t n, int64_t largest) {  // the size of parts
    const int64_t parts = (n + largest - 1) / largest;
    return (n + parts - 1) / parts;
  };
  const auto fit = [&](int64_t n, int64_t tiles) {
    return evenly(n, std::clamp<int64_t>(most / tiles, 1, n));
  };
  const int64_t images = fit(v.batch, tile_rows * tile_columns);
  const int64_t rows = images > 1 ? v.height : kTile * fit(tile_rows, tile_columns);
  std::vector<Piece> pieces;
  for (int64_t image = 0; image < v.batch; image += images)
    for (int64_t row = 0; row < v.height; row += rows) {
      const int64_t end = std::min(v.height, row + rows);
      pieces.push_back(
          {image, std::min(images, v.batch - image), row, end - row, row == 0, end == v.height});
    }
  return pieces;
}

// oneDNN multiplies 14 to 28 tiles at a time, a divisor of their number, and is up to a third
// slower where there is none. Where a few columns of zeros at the right of a wide map make one,
// they pay.
int64_t columns_of(const Windows& v, const Piece& p) {
  const int64_t tile_rows = (p.rows + kTile - 1) / kTile;
  const int64_t tile_columns = (v.width + kTile - 1) / kTile;
  for (int64_t columns = tile_columns; columns <= tile_columns + tile_columns / 16; ++columns)
    for (int64_t n = 14; n <= 28; ++n)
      if (p.images * tile_rows * columns % n == 0)
        return columns == tile_columns ? v.width : columns * kTile;
  return v.width;
}

// The convolution of a piece, of some channels and filters, in oneDNN's order NCHW.
struct Problem {
  int64_t width;
  dnnl::memory::dims x, y, w, top_left, bottom_right;

  Problem(const Windows& v, const Piece& p, int64_t channels, int64_t filters, int64_t columns)
      : width(v.width),
        x{p.images, channels, p.x_rows(), columns},
        y{p.images, filters, p.rows, columns},
        w{filters, channels, 3, 3},
        top_left{p.zeros_above, 1},
        bottom_right{p.zeros_below, 1} {}

  // Of a primitive, or of a copy to or from maps of such elements.
  onednn::Key key(char task, size_t element = sizeof(float)) const {
    return {task, x[0], x[1], x[2], x[3], y[1], y[2], width, top_left[0], int64_t(element)};
  }
  Forward::primitive_desc forward(bool with_bias) const {
    const Forward::desc d(dnnl::prop_kind::forward_training, kAlgorithm, desc(x, Tag::nChw16c),
                          desc(w, Tag::any), with_bias ? desc({y[1]}, Tag::a) : Desc(),
                          desc(y, Tag::nChw16c), kOne, top_left, bottom_right);
    return {d, onednn::Ready::attributes(), onednn::engine(), true};
  }
};

onednn::Ready& forward_of(const Problem& p, bool with_bias) {
  return onednn::cached(p.key(with_bias ? 'B' : 'F'), [&] {
    const auto pd = p.forward(with_bias);
    if (!pd) return onednn::Ready();
    return onednn::Ready(Forward(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_SRC, pd.src_desc()},
                          {DNNL_ARG_WEIGHTS, pd.weights_desc()},
                          {DNNL_ARG_BIAS, pd.bias_desc()},
                          {DNNL_ARG_DST, pd.dst_desc()}});
  });
}

onednn::Ready& weights_of(const Problem& p) {
  return onednn::cached(p.key('W'), [&] {
    const auto forward = p.forward(false);
    if (!forward) return onednn::Ready();
    const Weights::desc d(kAlgorithm, desc(p.x, Tag::nChw16c), desc(p.w, Tag::any),
                          desc(p.y, Tag::nChw16c), kOne, p.top_left, p.bottom_right);
    const Weights::primitive_desc pd(d, onednn::Ready::attributes(), onednn::engine(), forward,
                                     true);
    if (!pd) return onednn::Ready();
    return onednn::Ready(Weights(pd), pd.scratchpad_desc(),
                         {{DNNL_ARG_DIFF_DST, pd.diff_dst_desc()},
                          {DNNL_ARG_SRC, pd.src_desc()},
                          {DNNL_ARG_DIFF_WEIGHTS, pd.diff_weights_desc()}});
  });
}

bool fits(const Windows& v, int64_t filters) {
  return v.kernel_height == 3 && v.kernel_width == 3 && v.stride == 1 && v.top == 1 &&
         v.left == 1 && v.rows == v.height && v.columns == v.width && v.channels % kBlock == 0 &&
         filters % kBlock == 0;
}

// w (filters, 3, 3, channels) to (channels, 3, 3, filters), rows and columns from the end: the
// gradient of the input is the convolution of dy with it.
template <class S>
Tensor flipped(const S* w, int64_t filters, int64_t channels) {
  constexpr int64_t kRow = 256;  // channels; with a vector of filters they stay in the first cache
  Tensor to = empty({channels, 9, filters});
  float* const out = to.data<float>();
  parallel_for(filters / kBlock, 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * kBlock; first < end * kBlock; first += kBlock)
      for (int64_t tap = 0; tap < 9; ++tap)
        for (int64_t row = 0; row < channels; row += kRow)
          for (int64_t f = first; f < first + kBlock; ++f)
            for (int64_t c = row; c < std::min(channels, row + kRow); ++c)
              out[(c * 9 + 8 - tap) * filters + f] = float(w[(f * 9 + tap) * channels + c]);
  });
  return to;
}

// n values in f32: where they are, or of bf16 in new memory.
class InF32 {
 public:
  InF32(const float* from, int64_t) : data_(from) {}
  InF32(const bf16* from, int64_t n) {
    if (!from) return;
    copy_ = empty({n});
    float* const to = copy_.data<float>();
    parallel_for(n, 1 << 14, [&](int64_t begin, int64_t end) {
      convert(from + begin, to + begin, end - begin);
    });
    data_ = to;
  }
  const float* data() const { return data_; }

 private:
  const float* data_ = nullptr;
  Tensor copy_;
};

// Of what is known of all pieces of a convolution.
onednn::Key key_of(char task, const Windows& v, int64_t filters, bool with_bias = false) {
  return {task, v.batch, v.height, v.width, v.channels, filters, with_bias};
}

// Some filters and channels.
struct Block {
  int64_t filter, filters, channel, channels;
  int64_t size() const { return filters * 9 * channels; }
};

// Blocks of at most so many filters and channels.
std::vector<Block> blocks_of(int64_t filters, int64_t channels, int64_t most_filters,
                             int64_t most_channels) {
  // f(begin, end) for near-equal ranges of whole vectors.
  const auto for_ranges = [](int64_t n, int64_t largest, const auto& f) {
    const int64_t ranges = (n + largest - 1) / largest, vectors = n / kBlock;
    for (int64_t i = 0; i < ranges; ++i)
      f(kBlock * (vectors * i / ranges), kBlock * (vectors * (i + 1) / ranges));
  };
  std::vector<Block> blocks;
  for_ranges(filters, most_filters, [&](int64_t f, int64_t f_end) {
    for_ranges(channels, most_channels, [&](int64_t c, int64_t c_end) {
      blocks.push_back({f, f_end - f, c, c_end - c});
    });
  });
  return blocks;
}

// Some rows and channels of a channels-last map, as oneDNN sees them.
template <class S>
Desc part_of_map(const Windows& v, int64_t all_channels, const dnnl::memory::dims& dims) {
  return Desc(dims, onednn::data_type<S>,
              {v.height * v.width * all_channels, 1, v.width * all_channels, all_channels});
}

// Such a part, which begins at `from`, to oneDNN's layout.
template <class S>
void copy_in(onednn::Key key, const Windows& v, int64_t all_channels, const S* from,
             const dnnl::memory::dims& dims, const Desc& layout, void* to) {
  key[10] = all_channels, key[11] = v.height;
  onednn::reorder(key, part_of_map<S>(v, all_channels, dims), from, layout, to);
}
// And back.
template <class S>
void copy_out(onednn::Key key, const Windows& v, int64_t all_channels, const Desc& layout,
              const void* from, const dnnl::memory::dims& dims, S* to) {
  key[10] = all_channels, key[11] = v.height;
  onednn::reorder(key, layout, from, part_of_map<S>(v, all_channels, dims), to);
}

// How y is cut into tasks: pieces, and blocks of their filters. Some more than a few threads need,
// but transformed weights that no cache holds are read once a task, which pays from so many tiles
// on.
struct Tasks {
  std::vector<Piece> pieces;
  std::vector<Block> blocks;

  Tasks(const Windows& v, int64_t filters) {
    constexpr int64_t kTasks = 16, kTaskBytes = 16 << 20;  // transformed tiles of a task
    constexpr int64_t kCached = 1 << 20, kFewTiles = 28, kManyTiles = 112, kLeastFilters = 64;
    const auto quotient = [](int64_t n, int64_t parts) { return (n + parts - 1) / parts; };
    const int64_t tiles = v.batch * quotient(v.height, kTile) * quotient(v.width, kTile);
    const int64_t least = kTileBytes * v.channels * filters > kCached ? kManyTiles : kFewTiles,
                  most = kTaskBytes / (kTileBytes * (v.channels + filters));
    pieces = pieces_of(v, std::max(least, std::min(most, quotient(tiles, kTasks))));
    const int64_t parts = std::min(quotient(kTasks, int64_t(pieces.size())),
                                   std::max<int64_t>(filters / kLeastFilters, 1));
    blocks = blocks_of(filters, v.channels, quotient(filters, parts), v.channels);
  }
};

// How y is computed: tasks, and what oneDNN asks for them; own_x and own_y are in its layout.
struct ForwardPlan : Tasks {
  bool has_kernels = true;
  size_t x_bytes = 0, y_bytes = 0, scratch_bytes = 0;  // of a thread
  struct Alike {  // pieces whose weights are arranged alike: up to piece `end`
    size_t end;
    std::vector<Desc> layouts;  // of each block: of transformed weights
  };
  std::vector<Alike> alike;

  ForwardPlan(const Windows& v, int64_t filters, bool with_bias) : Tasks(v, filters) {
    const OneThread one;
    for (size_t i = 0; i < pieces.size(); ++i) {
      std::vector<Desc> layouts;
      for (const Block& b : blocks) {
        const onednn::Ready& ready = forward_of(problem_of(v, pieces[i], b), with_bias);
        if (!ready) {
          has_kernels = false;
          return;
        }
        layouts.push_back(ready.layout(1));
        x_bytes = std::max(x_bytes, ready.layout(0).get_size());
        y_bytes = std::max(y_bytes, ready.layout(3).get_size());
        scratch_bytes = std::max(scratch_bytes, ready.scratch_bytes());
      }
      if (alike.empty() || alike.back().layouts != layouts) alike.push_back({i, layouts});
      alike.back().end = i + 1;
    }
  }
  static Problem problem_of(const Windows& v, const Piece& piece, const Block& b) {
    return Problem(v, piece, v.channels, b.filters, columns_of(v, piece));
  }
};

// y from x of S, with w and bias in f32; false where oneDNN has no kernel. How oneDNN adds up
// depends on the number of threads it has: each call has one.
template <class S>
bool forward(const Windows& v, int64_t filters, const S* x, const float* w, const float* bias,
             S* y) {
  const bool with_bias = bias;
  const ForwardPlan& plan = onednn::cached(key_of('P', v, filters, with_bias),
                                           [&] { return ForwardPlan(v, filters, with_bias); });
  if (!plan.has_kernels) return false;
  const std::vector<Piece>& pieces = plan.pieces;
  const std::vector<Block>& blocks = plan.blocks;
  const auto n_blocks = int64_t(blocks.size()), tasks = int64_t(pieces.size()) * n_blocks;
  Scratch<uint8_t> own_x(int64_t(plan.x_bytes), tasks), own_y(int64_t(plan.y_bytes), tasks),
      scratch(int64_t(plan.scratch_bytes), tasks);
  size_t begin = 0;
  for (const auto& [end, layouts] : plan.alike) {
    std::vector<Tensor> packed;
    for (const Desc& layout : layouts) packed.push_back(onednn::memory_for(layout));
    parallel_for(n_blocks, 1, [&](int64_t first, int64_t last) {
      const OneThread one;
      for (int64_t i = first; i < last; ++i) {
        const Block& b = blocks[size_t(i)];
        const Problem p = ForwardPlan::problem_of(v, pieces[begin], b);
        onednn::reorder(p.key('f'), desc(p.w, Tag::ohwi), w + b.filter * 9 * v.channels,
                        layouts[size_t(i)], packed[size_t(i)].raw());
      }
    });
    parallel_for(int64_t(end - begin) * n_blocks, 1, [&](int64_t first, int64_t last) {
      const OneThread one;
      for (int64_t task = first; task < last; ++task) {
        const Piece& piece = pieces[begin + size_t(task / n_blocks)];
        const auto i = size_t(task % n_blocks);
        const Block& b = blocks[i];
        const Problem p = ForwardPlan::problem_of(v, piece, b);
        onednn::Ready& ready = forward_of(p, with_bias);
        const dnnl::memory::dims x_dims{piece.images, v.channels, p.x[2], v.width},
            y_dims{piece.images, b.filters, piece.rows, v.width};
        const int64_t x_row = piece.image * v.height + piece.first_row(),
                      y_row = piece.image * v.height + piece.row;
        if (p.x[3] > v.width) std::memset(own_x.mine(), 0, plan.x_bytes);
        copy_in(p.key('x', sizeof(S)), v, v.channels, x + x_row * v.width * v.channels, x_dims,
                ready.layout(0).submemory_desc(x_dims, {0, 0, 0, 0}), own_x.mine());
        ready.run({own_x.mine(), packed[i].raw(), bias ? bias + b.filter : nullptr, own_y.mine()},
                  scratch.mine());
        copy_out(p.key('y', sizeof(S)), v, filters,
                 ready.layout(3).submemory_desc(y_dims, {0, 0, 0, 0}), own_y.mine(), y_dims,
                 y + y_row * v.width * filters + b.filter);
      }
    });
    begin = end;
  }
  return true;
}

}  // namespace

template <class S>
bool winograd(const Windows& v, int64_t filters, const S* x, const S* w, const S* bias, S* y) {
  if (!fits(v, filters)) return false;
  const InF32 weights(w, filters * v.size()), biases(bias, filters);
  return forward(v, filters, x, weights.data(), biases.data(), y);
}

template <class S>
bool winograd_input(const Windows& v, int64_t filters, const S* dy, const S* w, S* dx) {
  if (!fits(v, filters)) return false;
  Windows of_dy = v;
  of_dy.channels = filters;
  const Tensor weights = flipped(w, filters, v.channels);
  return forward<S>(of_dy, v.channels, dy, weights.data<float>(), nullptr, dx);
}

namespace {

// How dw is computed. How oneDNN sums over images depends on the number of threads. So each call
// has one thread, and makes a block of dw, of some filters and channels, from one piece; we sum
// over pieces, in order. Where dw has few blocks, pieces are dealt to a fixed number of parts,
// whose sums are added.
struct WeightsPlan {
  std::vector<Piece> pieces;
  std::vector<Block> blocks;
  int64_t parts;
  bool has_kernels = true;
  size_t dy_bytes = 0, x_bytes = 0, dw_bytes = 0, scratch_bytes = 0;  // of a thread

  WeightsPlan(const Windows& v, int64_t filters)
      : pieces(pieces_of(v, kTiles)), blocks(blocks_of(filters, v.channels, kFilters, kChannels)) {
    constexpr int64_t kTasks = 8;
    parts = std::clamp<int64_t>(kTasks / int64_t(blocks.size()), 1, int64_t(pieces.size()));
    const OneThread one;
    for (const Block& b : blocks)
      for (const Piece& piece : pieces) {
        const onednn::Ready& ready = weights_of(problem_of(v, piece, b));
        // What is added up must be in one order, without gaps.
        has_kernels = ready &&
                      ready.layout(2) == weights_of(problem_of(v, pieces[0], b)).layout(2) &&
                      ready.layout(2).get_size() == size_t(b.size()) * sizeof(float);
        if (!has_kernels) return;
        dy_bytes = std::max(dy_bytes, ready.layout(0).get_size());
        x_bytes = std::max(x_bytes, ready.layout(1).get_size());
        dw_bytes = std::max(dw_bytes, ready.layout(2).get_size());
        scratch_bytes = std::max(scratch_bytes, ready.scratch_bytes());
      }
  }
  static Problem problem_of(const Windows& v, const Piece& piece, const Block& b) {
    return Problem(v, piece, b.channels, b.filters, v.width);
  }
};

}  // namespace

template <class S>
bool winograd_weights(const Windows& v, int64_t filters, const S* dy, const S* x, float* dw) {
  if (!fits(v, filters)) return false;
  const WeightsPlan& plan =
      onednn::cached(key_of('Q', v, filters), [&] { return WeightsPlan(v, filters); });
  if (!plan.has_kernels) return false;
  const std::vector<Piece>& pieces = plan.pieces;
  const std::vector<Block>& blocks = plan.blocks;
  const int64_t parts = plan.parts, n_pieces = int64_t(pieces.size()),
                n_blocks = int64_t(blocks.size()), tasks = parts * n_blocks;
  Scratch<uint8_t> own_dy(int64_t(plan.dy_bytes), tasks), own_x(int64_t(plan.x_bytes), tasks),
      scratch(int64_t(plan.scratch_bytes), tasks);
  Scratch<float> term(int64_t(plan.dw_bytes / sizeof(float)), tasks);
  Tensor sums =
      empty({parts, filters * 9 * v.channels});  // dw of each part, a block after the other
  const auto sum_of = [&](int64_t part, const Block& b) {
    return sums.data<float>() + part * sums.dim(1) + b.filter * 9 * v.channels +
           b.filters * 9 * b.channel;
  };
  parallel_for(tasks, 1, [&](int64_t first, int64_t last) {
    const OneThread one;
    for (int64_t task = first; task < last; ++task) {
      const int64_t part = task / n_blocks;
      const Block& b = blocks[size_t(task % n_blocks)];
      float* const sum = sum_of(part, b);
      const int64_t begin = n_pieces * part / parts, end = n_pieces * (part + 1) / parts;
      for (int64_t i = begin; i < end; ++i) {
        const Piece& piece = pieces[size_t(i)];
        const Problem p = WeightsPlan::problem_of(v, piece, b);
        onednn::Ready& ready = weights_of(p);
        const int64_t row = piece.image * v.height + piece.row;
        const int64_t x_row = piece.image * v.height + piece.first_row();
        copy_in(p.key('d', sizeof(S)), v, filters, dy + row * v.width * filters + b.filter, p.y,
                ready.layout(0), own_dy.mine());
        copy_in(p.key('c', sizeof(S)), v, v.channels, x + x_row * v.width * v.channels + b.channel,
                p.x, ready.layout(1), own_x.mine());
        float* const to = i == begin ? sum : term.mine();
        ready.run({own_dy.mine(), own_x.mine(), to}, scratch.mine());
        if (i != begin) add_into(to, sum, b.size());
      }
    }
  });
  parallel_for(n_blocks, 1, [&](int64_t first, int64_t last) {
    const OneThread one;
    for (int64_t i = first; i < last; ++i) {
      const Block& b = blocks[size_t(i)];
      for (int64_t part = 1; part < parts; ++part)
        add_into(sum_of(part, b), sum_of(0, b), b.size());
      const Problem p = WeightsPlan::problem_of(v, pieces[0], b);
      const int64_t c = v.channels;
      onednn::Key key = p.key('g');
      key[10] = c;
      onednn::reorder(key, weights_of(p).layout(2), sum_of(0, b),
                      Desc(p.w, dnnl::memory::data_type::f32, {9 * c, 1, 3 * c, c}),
                      dw + b.filter * 9 * c + b.channel);
    }
  });
  return true;
}

#define SG_WINOGRAD(S)                                                               \
  template bool winograd(const Windows&, int64_t, const S*, const S*, const S*, S*); \
  template bool winograd_input(const Windows&, int64_t, const S*, const S*, S*);     \
  template bool winograd_weights(const Windows&, int64_t, const S*, const S*, float*)
SG_WINOGRAD(float);
SG_WINOGRAD(bf16);
#undef SG_WINOGRAD

}  // namespace sg
