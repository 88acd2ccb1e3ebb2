#include "ops/attention/attention.h"

#include <algorithm>

#include "core/profile.h"
#include "ops/depthwise3x3/depthwise3x3.h"

namespace sg {
namespace {

using kernels::AttentionGeometry;

int64_t channels_of(const AttentionSpec& spec) {
  int64_t heads = 0;
  for (const HeadGroup& g : spec.groups) heads += g.heads;
  return heads * spec.head_dim;
}

// The tensor with the keys of the group: of inputs, which are const, or of their gradients.
template <class T, class Vector>
T& keys_of(const HeadGroup& g, T& proj, Vector& kv) {
  return g.source < 0 ? proj : kv[size_t(g.source)];
}

// Each column of a tensor must be named once: backward writes the gradient of every column.
struct ColumnRange {
  int64_t begin, count;
};
void check_columns(const std::string& arg, const Tensor& t, std::vector<ColumnRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const auto& a, const auto& b) { return a.begin < b.begin; });
  int64_t end = 0;
  for (const ColumnRange& r : ranges) {
    check(r.begin == end, "attention: {}: expected each column to be named once, but columns {} {}",
          arg,
          end < r.begin ? fmt::format("{} to {}", end, r.begin - 1) : fmt::format("{} on", r.begin),
          end < r.begin ? "are not named" : "are named twice");
    end += r.count;
  }
  check(end == t.dim(3), "attention: {}: expected {} columns, as the spec names, found {}", arg,
        end, t.dim(3));
}

void check_arguments(const Tensor& proj, const std::vector<Tensor>& kv, const Tensor& lepe_w,
                     const Tensor& lepe_b, const AttentionSpec& spec) {
  check_dims("attention", "proj", proj, 4);
  check(spec.head_dim >= 1 && spec.head_dim <= 64,
        "attention: head_dim: expected 1 to 64, found {}", spec.head_dim);
  check(!spec.groups.empty(), "attention: groups: expected at least one");
  const int64_t c = channels_of(spec), h = proj.dim(1), w = proj.dim(2);
  check_shape("attention", "lepe_w", lepe_w, {3, 3, c});
  check_shape("attention", "lepe_b", lepe_b, {c});
  check_acc_dtype("attention", "lepe_w", lepe_w, proj);
  check_acc_dtype("attention", "lepe_b", lepe_b, proj);

  check(h >= 1 && w >= 1, "attention: proj: expected at least one token, found {}",
        proj.shape().str());
  for (size_t i = 0; i < kv.size(); ++i) {
    const std::string name = fmt::format("kv[{}]", i);
    check_dims("attention", name, kv[i], 4);
    check_like("attention", name, kv[i], proj);
    check(kv[i].dim(0) == proj.dim(0) && kv[i].dim(1) * kv[i].dim(2) >= 1,
          "attention: {}: expected keys for {} images, found {}", name, proj.dim(0),
          kv[i].shape().str());
  }

  std::vector<std::vector<ColumnRange>> columns(kv.size());
  std::vector<ColumnRange> own{{0, c}, {spec.lepe_column, c}};
  for (const HeadGroup& g : spec.groups) {
    check(g.heads >= 1 && g.window >= 0 && g.scale >= 1,
          "attention: group: expected heads >= 1, window >= 0, scale >= 1, found {}, {}, {}",
          g.heads, g.window, g.scale);
    check(g.source >= -1 && g.source < int(kv.size()),
          "attention: group: expected a source from -1 to {}, found {}", int(kv.size()) - 1,
          g.source);
    (g.source < 0 ? own : columns[size_t(g.source)])
        .push_back({g.column, 2 * int64_t{g.heads} * spec.head_dim});
    const Tensor& keys = keys_of(g, proj, kv);
    const int64_t kh = (h + g.scale - 1) / g.scale, kw = (w + g.scale - 1) / g.scale;
    check((g.window == 0 && g.significance == 0) || (keys.dim(1) == kh && keys.dim(2) == kw),
          "attention: group: scale {} of a map {} x {} expects keys {} x {}, found {} x {}",
          g.scale, h, w, kh, kw, keys.dim(1), keys.dim(2));
  }
  check_columns("proj", proj, own);
  for (size_t i = 0; i < kv.size(); ++i) check_columns(fmt::format("kv[{}]", i), kv[i], columns[i]);
}

// Pairs of a query and a key that see each other, along one side of the map.
double pairs(int64_t queries, int64_t keys, int64_t window, int64_t scale) {
  if (window == 0) return double(queries) * double(keys);
  double sum = 0;
  for (int64_t k = 0; k < keys; k += window)
    sum +=
        double(std::min(scale * window, queries - scale * k)) * double(std::min(window, keys - k));
  return sum;
}

// The groups as kernels see them, and what they cost.
struct Work {
  std::vector<AttentionGeometry> groups;
  double macs = 0;   // of one product, q k^T or p v
  double bytes = 0;  // of queries, keys, values and output
};
Work work_of(const Tensor& proj, const std::vector<Tensor>& kv, const AttentionSpec& spec) {
  Work work;
  int64_t column = 0;
  for (const HeadGroup& g : spec.groups) {
    const Tensor& keys = keys_of(g, proj, kv);
    work.groups.push_back({.heads = g.heads,
                           .head_dim = spec.head_dim,
                           .batch = proj.dim(0),
                           .h = proj.dim(1),
                           .w = proj.dim(2),
                           .key_h = keys.dim(1),
                           .key_w = keys.dim(2),
                           .window = g.window,
                           .scale = g.scale,
                           .q_column = column,
                           .q_ld = proj.dim(3),
                           .kv_column = g.column,
                           .kv_ld = keys.dim(3),
                           .out_column = column,
                           .out_ld = channels_of(spec)});
    const int64_t channels = int64_t{g.heads} * spec.head_dim;
    column += channels;
    work.macs += double(proj.dim(0) * channels) *
                 pairs(proj.dim(1), keys.dim(1), g.window, g.scale) *
                 pairs(proj.dim(2), keys.dim(2), g.window, g.scale);
    work.bytes += 2.0 * double(size_of(proj.dtype()) * size_t(channels)) *
                  double(proj.dim(0) * (proj.dim(1) * proj.dim(2) + keys.dim(1) * keys.dim(2)));
  }
  return work;
}

}  // namespace

AttentionResult attention(const Tensor& proj, const std::vector<Tensor>& kv, const Tensor& lepe_w,
                          const Tensor& lepe_b, const AttentionSpec& spec) {
  check_arguments(proj, kv, lepe_w, lepe_b, spec);
  std::vector<Tensor> inputs{proj, lepe_w, lepe_b};
  inputs.insert(inputs.end(), kv.begin(), kv.end());
  const bool recording = autograd::recording(inputs);
  const Work work = work_of(proj, kv, spec);
  const int64_t b = proj.dim(0), h = proj.dim(1), w = proj.dim(2);
  Stream& stream = proj.stream();

  AttentionResult result;
  result.out = empty({b, h, w, channels_of(spec)}, proj.dtype(), proj.device());
  std::vector<Tensor> lse(spec.groups.size());
  {
    const profile::OpScope scope("attention.fwd", profile::multiply_adds(2 * work.macs),
                                 work.bytes);
    for (size_t i = 0; i < spec.groups.size(); ++i) {
      const HeadGroup& group = spec.groups[i];
      const AttentionGeometry& g = work.groups[i];
      if (recording) lse[i] = empty({b, g.heads, h * w}, acc_dtype(proj.dtype()), proj.device());
      Tensor attention_received;
      if (group.significance != 0)
        attention_received =
            empty({b, g.heads, g.key_h * g.key_w}, acc_dtype(proj.dtype()), proj.device());
      kernels::attention_fwd(stream, proj, keys_of(group, proj, kv), g, result.out, lse[i],
                             attention_received);
      if (!attention_received) continue;
      const bool first = !result.significance;
      if (first) result.significance = empty({b, h, w}, acc_dtype(proj.dtype()), proj.device());
      const double side = double(g.scale) * g.window;
      const double queries = g.window ? side * side : double(h * w);
      kernels::spread_significance(stream, attention_received, g, group.significance / queries,
                                   first, result.significance);
    }
  }
  const double lepe_macs = 9.0 * double(result.out.numel());
  const double out_bytes = double(result.out.bytes());
  const kernels::Columns lepe{spec.lepe_column, proj.dim(3)};
  {
    const profile::OpScope scope("lepe.fwd", profile::multiply_adds(lepe_macs), 3 * out_bytes);
    kernels::depthwise3x3_fwd(stream, proj, lepe, lepe_w, lepe_b, 1,
                              kernels::DepthwiseForm::add_into, result.out);
  }

  autograd::record("attention", {&result.out}, inputs, [=, &stream](autograd::Backward& g) {
    // Groups and LePE each overwrite columns of their own.
    const auto gradient = [&](int input, const Tensor& like) {
      return g.wants(input) ? g.fresh_grad(input) : empty_like(like);
    };
    Tensor dproj = gradient(0, proj);
    std::vector<Tensor> dkv;
    for (size_t i = 0; i < kv.size(); ++i) dkv.push_back(gradient(3 + int(i), kv[i]));
    {
      const profile::OpScope scope("attention.bwd", profile::multiply_adds(5 * work.macs),
                                   2 * work.bytes);
      for (size_t i = 0; i < spec.groups.size(); ++i)
        kernels::attention_bwd(stream, g.dy(), proj, keys_of(spec.groups[i], proj, kv), lse[i],
                               work.groups[i], dproj, keys_of(spec.groups[i], dproj, dkv));
    }
    const profile::OpScope scope("lepe.bwd", profile::multiply_adds(2 * lepe_macs), 3 * out_bytes);
    kernels::depthwise3x3_bwd(stream, g.dy(), proj, lepe, lepe_w, lepe_b, 1,
                              kernels::DepthwiseForm::add_into, Grad{dproj}, {}, g.grad(1),
                              g.grad(2));
  });
  return result;
}

}  // namespace sg
