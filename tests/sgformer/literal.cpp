#include "tests/sgformer/literal.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/sgformer/literal_layers.h"
#include "tests/support/naive.h"

namespace sg::test {
namespace {

using namespace naive;
using sgformer::Config, sgformer::Guidance, sgformer::RegionShare, sgformer::ScaleGroup,
    sgformer::StageConfig;

int64_t ceil_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

using Weights = LiteralWeights;

Tensor norm(const Weights& w, const std::string& name, const Tensor& x, double eps) {
  return affine(standardize(x, eps), w(name + ".weight"), w(name + ".bias"));
}

Tensor depthwise(const Weights& w, const std::string& name, const Tensor& x, int stride,
                 bool bias) {
  const Tensor k = w(name + ".weight");
  return depthwise3x3(x, reshape(permute(k, {2, 3, 1, 0}), {3, 3, k.dim(0)}),
                      bias ? w(name + ".bias") : Tensor(), stride);
}

// Conv2d_BN: convolution without bias, GroupNorm of one group.
Tensor conv_norm(const Weights& w, const std::string& name, const Tensor& x, int stride) {
  const Tensor k = w(name + ".c.weight");
  Tensor y;
  if (k.dim(1) == 1 && k.dim(2) == 3)
    y = depthwise(w, name + ".c", x, stride, false);
  else
    y = conv2d(x, permute(k, {0, 2, 3, 1}), {}, stride, k.dim(2) / 2, k.dim(2) / 2, k.dim(2) / 2,
               k.dim(2) / 2);
  const Tensor flat = standardize(reshape(y, {y.dim(0), y.numel() / y.dim(0)}), 1e-5);
  return affine(reshape(flat, y.shape()), w(name + ".bn.weight"), w(name + ".bn.bias"));
}

// Rows of a bicubic resize from `in` to `out` samples (a = -0.75, half-pixel centres, edge clamp).
Tensor bicubic_rows(int64_t in, int64_t out) {
  const auto weight = [](double t) {
    const double a = -0.75;
    t = std::abs(t);
    if (t <= 1) return (a + 2) * t * t * t - (a + 3) * t * t + 1;
    return t < 2 ? a * t * t * t - 5 * a * t * t + 8 * a * t - 4 * a : 0.0;
  };
  Tensor m = zeros({1, out, in}, Dtype::f64);
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (double(i) + 0.5) * double(in) / double(out) - 0.5;
    for (int64_t tap = int64_t(std::floor(centre)) - 1; tap <= int64_t(std::floor(centre)) + 2;
         ++tap)
      m.data<double>()[i * in + std::clamp<int64_t>(tap, 0, in - 1)] +=
          weight(centre - double(tap));
  }
  return m;
}

Tensor resize_table(const Tensor& table, int64_t side, int64_t h, int64_t w) {  // (1, side^2, C)
  const int64_t c = table.dim(2);
  if (h == side && w == side) return table;
  const Tensor columns = permute(reshape(table, {side, side, c}), {1, 2, 0});  // (W, C, H)
  const Tensor rows = matmul_nt(bicubic_rows(side, h), reshape(columns, {1, side * c, side}));
  const Tensor across = permute(reshape(rows, {h, side, c}), {0, 2, 1});  // (h, C, W)
  const Tensor both = matmul_nt(bicubic_rows(side, w), reshape(across, {1, h * c, side}));
  return permute(reshape(both, {w, h, c}), {1, 0, 2});
}

struct Attended {
  Tensor out;                        // (B, N, heads * d)
  std::vector<double> significance;  // B * N: attention that each token's key receives
};

// Queries of token (y, x) and keys that meet in a window, padded with -1.
struct Window {
  Index queries, keys;  // row-major indices in their maps
};

std::vector<Window> windows_of(int64_t h, int64_t w, int64_t kh, int64_t kw, int m, int s) {
  std::vector<Window> windows;
  for (int64_t wy = 0; wy < ceil_to(kh, m) / m; ++wy)
    for (int64_t wx = 0; wx < ceil_to(kw, m) / m; ++wx) {
      const auto cells = [&](int64_t side, int64_t rows, int64_t columns) {
        Index cell;
        for (int64_t y = wy * side; y < (wy + 1) * side; ++y)
          for (int64_t x = wx * side; x < (wx + 1) * side; ++x)
            cell.push_back(y < rows && x < columns ? y * columns + x : -1);
        return cell;
      };
      windows.push_back({cells(int64_t{s} * m, h, w), cells(m, kh, kw)});
    }
  return windows;
}

Window everything(int64_t queries, int64_t keys) {
  Window w{Index(size_t(queries)), Index(size_t(keys))};
  std::iota(w.queries.begin(), w.queries.end(), 0);
  std::iota(w.keys.begin(), w.keys.end(), 0);
  return w;
}

// q (B, N, heads * d), kv (B, L, 2 * heads * d) ordered [k, v][head][d]; masked[b * L + key].
// `divisor`: what the received attention is divided by. token_key[token]: the key it belongs to.
Attended attend(const Tensor& q, const Tensor& kv, int heads, const std::vector<Window>& windows,
                double divisor, const Index& token_key, const std::vector<bool>& masked = {}) {
  const int64_t batch = q.dim(0), n = q.dim(1), c = q.dim(2), d = c / heads, l = kv.dim(1);
  const int64_t nq = int64_t(windows[0].queries.size()), nk = int64_t(windows[0].keys.size());
  const int64_t groups = batch * int64_t(windows.size()) * heads;
  Index q_index, k_index, v_index, back(size_t(batch * n * c));
  std::vector<bool> keep;
  int64_t g = 0;
  for (int64_t b = 0; b < batch; ++b)
    for (const Window& win : windows)
      for (int64_t h = 0; h < heads; ++h, ++g) {
        for (int64_t i = 0; i < nq; ++i)
          for (int64_t e = 0; e < d; ++e) {
            const int64_t t = win.queries[size_t(i)];
            q_index.push_back(t < 0 ? -1 : (b * n + t) * c + h * d + e);
            if (t >= 0) back[size_t((b * n + t) * c + h * d + e)] = (g * nq + i) * d + e;
          }
        for (const int64_t t : win.keys)
          for (int64_t e = 0; e < d; ++e)
            k_index.push_back(t < 0 ? -1 : (b * l + t) * 2 * c + h * d + e);
        for (int64_t e = 0; e < d; ++e)
          for (const int64_t t : win.keys)
            v_index.push_back(t < 0 ? -1 : (b * l + t) * 2 * c + c + h * d + e);
        for (int64_t i = 0; i < nq; ++i)
          for (const int64_t t : win.keys)
            keep.push_back(t >= 0 && (masked.empty() || !masked[size_t(b * l + t)]));
      }
  const Tensor scores =
      matmul_nt(gather(q, q_index, {groups, nq, d}), gather(kv, k_index, {groups, nk, d}));
  const Tensor p = softmax(scale(scores, 1 / std::sqrt(double(d))), keep);
  Attended r;
  r.out = gather(matmul_nt(p, gather(kv, v_index, {groups, d, nk})), back, {batch, n, c});

  std::vector<double> received(size_t(batch * l));
  g = 0;
  for (int64_t b = 0; b < batch; ++b)
    for (const Window& win : windows)
      for (int64_t h = 0; h < heads; ++h, ++g)
        for (int64_t i = 0; i < nq; ++i)
          for (int64_t j = 0; j < nk; ++j)
            if (win.queries[size_t(i)] >= 0 && win.keys[size_t(j)] >= 0)
              received[size_t(b * l + win.keys[size_t(j)])] +=
                  p.data<double>()[(g * nq + i) * nk + j];
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t t = 0; t < n && !token_key.empty(); ++t)
      r.significance.push_back(received[size_t(b * l + token_key[size_t(t)])] / divisor / heads);
  return r;
}

// LePE, sum with the heads, output projection. x (B, H, W, C), heads (B, N, C).
Tensor finish(const Weights& w, const Tensor& x, const Tensor& heads) {
  const Tensor lepe = depthwise(w, "lepe_conv", lin(w, "lepe_linear", x), 1, true);
  return lin(w, "proj", add(reshape(heads, x.shape()), lepe));
}

// Channels of (B, N, C_i) side by side.
Tensor concat_channels(const std::vector<Tensor>& parts) {
  const int64_t batch = parts[0].dim(0), n = parts[0].dim(1);
  int64_t total = 0;
  for (const Tensor& p : parts) total += p.dim(2);
  std::vector<Tensor> flat;
  Index offset;
  int64_t at = 0;
  for (const Tensor& p : parts) offset.push_back(at), at += p.numel(), flat.push_back(p);
  Index index;
  for (int64_t row = 0; row < batch * n; ++row)
    for (size_t k = 0; k < parts.size(); ++k)
      for (int64_t c = 0; c < parts[k].dim(2); ++c)
        index.push_back(offset[k] + row * parts[k].dim(2) + c);
  return gather(concat(flat, {at}), index, {batch, n, total});
}

Tensor merge(const Weights& w, const std::string& number, const Tensor& x, int s) {
  const int64_t h = ceil_to(x.dim(1), s), wd = ceil_to(x.dim(2), s), c = x.dim(3);
  Index padded;
  for (int64_t i = 0; i < x.dim(0) * h * wd * c; ++i) {
    const int64_t col = i / c % wd, row = i / c / wd % h, b = i / c / wd / h;
    padded.push_back(row < x.dim(1) && col < x.dim(2)
                         ? ((b * x.dim(1) + row) * x.dim(2) + col) * c + i % c
                         : -1);
  }
  const Tensor p = gather(x, padded, {x.dim(0), h, wd, c});
  const Tensor y = conv2d(p, permute(w("sr" + number + ".weight"), {0, 2, 3, 1}),
                          w("sr" + number + ".bias"), s, 0, 0, 0, 0);
  return gelu(norm(w, "norm" + number, y, 1e-5));
}

Tensor hybrid(const Weights& w, const Config& config, const StageConfig& stage, const Tensor& x,
              std::vector<double>& significance) {
  const int64_t h = x.dim(1), wd = x.dim(2), n = h * wd;
  const int heads = stage.heads / int(stage.scales.size());
  significance.assign(size_t(x.dim(0) * n), 0);
  std::vector<Tensor> outs;
  bool first_merge = true;
  for (size_t i = 0; i < stage.scales.size(); ++i) {
    const auto [s, global] = stage.scales[i];
    const std::string number = fmt::format("{}", i + 1);
    Tensor source = x;
    if (s > 1) source = merge(w, std::exchange(first_merge, false) ? "" : number, x, s);
    const int64_t kh = source.dim(1), kw = source.dim(2);
    const Tensor q =
        reshape(lin(w, "q" + number, x), {x.dim(0), n, stage.dim / int64_t(stage.scales.size())});
    const Tensor kv = lin(w, "kv" + number, source);
    Index token_key;
    for (int64_t t = 0; t < n; ++t) token_key.push_back(t / wd / s * kw + t % wd / s);
    const int m = config.window;
    const auto windows =
        global ? std::vector{everything(n, kh * kw)} : windows_of(h, wd, kh, kw, m, s);
    const Attended a = attend(q, reshape(kv, {x.dim(0), kh * kw, kv.dim(3)}), heads, windows,
                              global ? double(n) : double(s * m * s * m), token_key);
    outs.push_back(a.out);
    const Guidance own = s == 1 ? Guidance::local : Guidance::global;
    if (config.guidance != Guidance::hybrid && config.guidance != own) continue;
    const double factor = config.balance_significance && global ? double(kh * kw) / 49 : 1;
    for (size_t t = 0; t < significance.size(); ++t) significance[t] += factor * a.significance[t];
  }
  return finish(w, x, concat_channels(outs));
}

Tensor self_guided(const Weights& w, const StageConfig& stage, const Tensor& x,
                   const std::vector<double>& significance) {
  const int64_t batch = x.dim(0), n = x.dim(1) * x.dim(2), c = x.dim(3);
  // The least N' = multiple of N that all shares cut into whole chunks.
  const auto whole = [&](int64_t ranks) {
    return std::all_of(stage.regions.begin(), stage.regions.end(), [&](const RegionShare& r) {
      return ranks * r.numerator % (r.denominator * r.r) == 0;
    });
  };
  int64_t unit = 1;
  while (!whole(unit)) ++unit;
  const int64_t padded = ceil_to(n, unit);
  std::vector<Tensor> parts;
  std::vector<std::vector<bool>> masks;  // a region: B * chunks
  Index chunks;
  int64_t begin = 0;
  for (size_t i = 0; i < stage.regions.size(); ++i) {
    const RegionShare& share = stage.regions[i];
    const int64_t count = padded * share.numerator / share.denominator / share.r;
    Index from, weight, bias;
    std::vector<bool> mask;
    for (int64_t b = 0; b < batch; ++b) {
      Index ranking(size_t(padded - n), -1);  // virtual tokens first
      Index real(static_cast<size_t>(n));
      std::iota(real.begin(), real.end(), 0);
      std::stable_sort(real.begin(), real.end(), [&](int64_t p, int64_t q) {
        return significance[size_t(b * n + p)] < significance[size_t(b * n + q)];
      });
      ranking.insert(ranking.end(), real.begin(), real.end());
      for (int64_t j = 0; j < count; ++j) {
        bool only_virtual = true;
        for (int64_t ch = 0; ch < c; ++ch)
          for (int64_t k = 0; k < share.r; ++k) {
            const int64_t t = ranking[size_t(begin + j * share.r + k)];
            only_virtual &= t < 0;
            from.push_back(t < 0 ? -1 : (b * n + t) * c + ch);
            weight.push_back(k);
          }
        mask.push_back(only_virtual);
      }
    }
    bias.assign(size_t(batch * count * c), 0);
    const std::string f = fmt::format("f{}", i + 1);
    const Shape shape{batch * count, c, share.r};
    const Tensor y =
        sum_last(multiply(gather(x, from, shape), gather(w(f + ".weight"), weight, shape)));
    parts.push_back(add(y, gather(w(f + ".bias"), bias, y.shape())));
    masks.push_back(mask);
    chunks.push_back(count);
    begin += count * share.r;
  }
  // Regions side by side: (B, L, C).
  Index index;
  std::vector<bool> masked;
  for (int64_t b = 0; b < batch; ++b) {
    int64_t offset = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      for (int64_t j = 0; j < chunks[i] * c; ++j) index.push_back(offset + b * chunks[i] * c + j);
      for (int64_t j = 0; j < chunks[i]; ++j) masked.push_back(masks[i][size_t(b * chunks[i] + j)]);
      offset += parts[i].numel();
    }
  }
  const int64_t l = std::accumulate(chunks.begin(), chunks.end(), int64_t{0});
  const Tensor y = gather(concat(parts, {int64_t(index.size())}), index, {batch, l, c});
  const Tensor q = reshape(lin(w, "q", x), {batch, n, c});
  std::vector<Tensor> halves;
  for (int half = 0; half < 2; ++half) {
    Index columns;
    for (int64_t i = 0; i < batch * n * c / 2; ++i)
      columns.push_back(i / (c / 2) * c + half * c / 2 + i % (c / 2));
    const Tensor kv = lin(w, half ? "kv2" : "kv1", y);
    halves.push_back(attend(gather(q, columns, {batch, n, c / 2}), kv, stage.heads / 2,
                            {everything(n, l)}, 1, {}, masked)
                         .out);
  }
  return finish(w, x, concat_channels(halves));
}

Tensor full_attention(const Weights& w, const StageConfig& stage, const Tensor& x) {
  const int64_t n = x.dim(1) * x.dim(2), c = x.dim(3);
  const Tensor q = reshape(lin(w, "q", x), {x.dim(0), n, c});
  const Tensor kv = reshape(lin(w, "kv", x), {x.dim(0), n, 2 * c});
  return finish(w, x, attend(q, kv, stage.heads, {everything(n, n)}, 1, {}).out);
}

Tensor mlp(const Weights& w, const Tensor& x) {
  const Tensor z = lin(w, "fc1", x);
  return lin(w, "fc2", gelu(add(z, depthwise(w.in("dwconv"), "dwconv", z, 1, true))));
}

}  // namespace

LiteralWeights literal_weights(const nn::ParameterStore& parameters) {
  LiteralWeights w;
  for (const std::string& name : parameters.names())
    w.leaves[name] = autograd::leaf(parameters.get(parameters.values(), name));
  return w;
}

LiteralFeatures literal_backbone(const Config& config, const LiteralWeights& w,
                                 const Tensor& images) {
  LiteralFeatures result;
  const Weights stem = w.in("patch_embed1").in("conv");
  Tensor x = gelu(conv_norm(stem, "0", images, config.stem_strides[0]));
  x = gelu(conv_norm(stem, "2", x, config.stem_strides[1]));
  x = conv_norm(stem, "4", x, config.stem_strides[2]);
  x = norm(w.in("patch_embed1"), "norm", x, 1e-5);
  const Tensor table = resize_table(w("pos_embed"), config.pos_embed_side, x.dim(1), x.dim(2));
  Index every;
  for (int64_t i = 0; i < x.numel(); ++i) every.push_back(i % table.numel());
  x = add(x, gather(table, every, x.shape()));

  for (size_t i = 0; i < 4; ++i) {
    const StageConfig& stage = config.stages[i];
    if (i > 0) {
      const Weights embed = w.in(fmt::format("patch_embed{}", i + 1));
      x = gelu(conv_norm(embed, "conv1", x, 1));
      x = gelu(conv_norm(embed, "conv2", x, 2));
      x = conv_norm(embed, "conv3", x, 1);
    }
    std::vector<double> significance;
    for (int j = 0; j < stage.depth; ++j) {
      const Weights block = w.in(fmt::format("block{}.{}", i + 1, j)), attn = block.in("attn");
      const Tensor normed = norm(block, "norm1", x, 1e-6);
      if (stage.scales.empty()) {
        x = add(x, full_attention(attn, stage, normed));
      } else if (j % 2 == 0) {
        x = add(x, hybrid(attn, config, stage, normed, significance));
        result.significance.push_back(from_vector(significance, {x.dim(0), x.dim(1) * x.dim(2)}));
      } else {
        x = add(x, self_guided(attn, stage, normed, significance));
      }
      x = add(x, mlp(block.in("mlp"), norm(block, "norm2", x, 1e-6)));
    }
    x = norm(w, fmt::format("norm{}", i + 1), x, 1e-6);
    result.maps.push_back(x);
  }
  return result;
}

LiteralResult run_literal(const Config& config, const nn::ParameterStore& parameters,
                          const Tensor& images, const Tensor& upstream) {
  const Weights w = literal_weights(parameters);
  const Tensor image = autograd::leaf(images);
  const LiteralFeatures features = literal_backbone(config, w, image);
  LiteralResult result;
  result.significance = features.significance;
  const Tensor& x = features.maps[3];
  const int64_t n = x.dim(1) * x.dim(2);
  const Tensor tokens = permute(reshape(x, {x.dim(0), n, x.dim(3)}), {0, 2, 1});
  result.logits = lin(w, "head", scale(sum_last(tokens), 1 / double(n)));
  autograd::backward({result.logits}, {upstream});
  for (const auto& [name, leaf] : w.leaves) result.gradients[name] = autograd::grad_of(leaf);
  result.image_gradient = autograd::grad_of(image);
  return result;
}

}  // namespace sg::test
