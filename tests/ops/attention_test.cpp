#include "ops/attention/attention.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/cpu/bf16_products.h"
#include "core/cpu/parallel.h"
#include "core/profile.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

// A spec, and the shapes that go with it.
struct Setup {
  std::string name;
  int64_t batch, h, w;
  AttentionSpec spec;
  std::vector<Shape> kv;  // (h, w) of external keys; their columns follow from the spec

  int64_t channels() const {
    int64_t heads = 0;
    for (const HeadGroup& g : spec.groups) heads += g.heads;
    return heads * spec.head_dim;
  }
  int64_t width(int source) const {
    int64_t columns = source < 0 ? 2 * channels() : 0;
    for (const HeadGroup& g : spec.groups)
      if (g.source == source) columns += 2 * g.heads * spec.head_dim;
    return columns;
  }
  // proj, lepe_w, lepe_b, kv...
  std::vector<Tensor> inputs(double range = 1) const {
    const int64_t c = channels();
    std::vector<Tensor> in{random({batch, h, w, width(-1)}, 1, -range, range), random({3, 3, c}, 2),
                           random({c}, 3)};
    for (size_t i = 0; i < kv.size(); ++i)
      in.push_back(random({batch, kv[i][0], kv[i][1], width(int(i))}, 4 + i, -range, range));
    return in;
  }
};

std::vector<Tensor> op(const Setup& s, const std::vector<Tensor>& in) {
  const AttentionResult r = attention(in[0], {in.begin() + 3, in.end()}, in[1], in[2], s.spec);
  if (r.significance) return {r.out, r.significance};
  return {r.out};
}

// The same, composed: every head attends to all keys of the map, but for those that are masked.
std::vector<Tensor> reference(const Setup& s, const std::vector<Tensor>& in) {
  const int64_t n = s.h * s.w, d = s.spec.head_dim, c = s.channels();
  std::vector<Tensor> outs;
  std::vector<int64_t>
      first_of_head;  // where a head's output (B, n, d) begins in their concatenation
  std::vector<int64_t> batch_stride;
  int64_t column = 0, at = 0;
  Tensor significance;
  for (const HeadGroup& g : s.spec.groups) {
    const Tensor& keys = g.source < 0 ? in[0] : in[size_t(3 + g.source)];
    const int64_t kw = keys.dim(2), nk = keys.dim(1) * kw, groups = s.batch * g.heads;
    // Columns of a map as (B * heads, tokens, d), or with the last two exchanged.
    const auto heads_of = [&](const Tensor& t, int64_t first, bool transposed) {
      const int64_t tokens = t.dim(1) * t.dim(2);
      std::vector<int64_t> index;
      for (int64_t b = 0; b < s.batch; ++b)
        for (int64_t head = 0; head < g.heads; ++head)
          for (int64_t i = 0; i < tokens * d; ++i) {
            const int64_t token = transposed ? i % tokens : i / d,
                          e = transposed ? i / tokens : i % d;
            index.push_back((b * tokens + token) * t.dim(3) + first + head * d + e);
          }
      return naive::gather(t, index,
                           transposed ? Shape{groups, d, tokens} : Shape{groups, tokens, d});
    };
    std::vector<bool> keep;
    for (int64_t i = 0; i < groups * n * nk; ++i) {
      const int64_t key = i % nk, token = i / nk % n, side = int64_t{g.scale} * g.window;
      keep.push_back(g.window == 0 || (token / s.w / side == key / kw / g.window &&
                                       token % s.w / side == key % kw / g.window));
    }
    const Tensor scores =
        naive::matmul_nt(heads_of(in[0], column, false), heads_of(keys, g.column, false));
    const Tensor p = naive::softmax(naive::scale(scores, 1 / std::sqrt(double(d))), keep);
    outs.push_back(naive::matmul_nt(p, heads_of(keys, g.column + g.heads * d, true)));
    for (int64_t head = 0; head < g.heads; ++head) {
      first_of_head.push_back(at + head * n * d);
      batch_stride.push_back(g.heads * n * d);
    }
    at += outs.back().numel();
    column += g.heads * d;

    if (g.significance == 0) continue;
    if (!significance) significance = zeros({s.batch, s.h, s.w}, Dtype::f64);
    const double queries = g.window ? std::pow(g.scale * g.window, 2) : double(n);
    for (int64_t i = 0; i < significance.numel(); ++i) {
      const int64_t b = i / n, key = i % n / s.w / g.scale * kw + i % s.w / g.scale;
      double sum = 0;
      for (int64_t head = 0; head < g.heads; ++head)
        for (int64_t q = 0; q < n; ++q)
          sum += p.data<double>()[((b * g.heads + head) * n + q) * nk + key];
      significance.data<double>()[i] += g.significance * sum / (g.heads * queries);
    }
  }
  std::vector<int64_t> to_map, lepe;
  for (int64_t i = 0; i < s.batch * n * c; ++i) {
    const int64_t channel = i % c, token = i / c % n, b = i / c / n;
    const size_t head = size_t(channel / d);
    to_map.push_back(first_of_head[head] + b * batch_stride[head] + token * d + channel % d);
    lepe.push_back(i / c * in[0].dim(3) + s.spec.lepe_column + channel);
  }
  const Shape shape{s.batch, s.h, s.w, c};
  const Tensor heads = naive::gather(naive::concat(outs, {at}), to_map, shape);
  const Tensor positions = naive::depthwise3x3(naive::gather(in[0], lepe, shape), in[1], in[2], 1);
  std::vector<Tensor> result{naive::add(heads, positions)};
  if (significance) result.push_back(significance);
  return result;
}

void check_setup(const Setup& s) {
  OpCase test;
  test.name = s.name;
  test.inputs = s.inputs();
  test.op = [=](auto& in) { return op(s, in); };
  test.reference = [=](auto& in) { return reference(s, in); };
  int64_t keys = s.h * s.w;
  for (const Shape& k : s.kv) keys = std::max(keys, k[0] * k[1]);
  test.terms = keys;
  test.cuda = keys <= 1024 || !emulated();  // beyond: more tiles of the same, slow if emulated
  test.roles.assign(test.inputs.size(), Role::activation);
  test.roles[1] = test.roles[2] = Role::parameter;
  run(test);
}

int64_t up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// The hybrid block: half of the heads see all keys of a merged map, half their own window.
Setup hybrid(int64_t batch, int64_t h, int64_t w, int d, int heads, int scale, int window = 7) {
  const int64_t c = 2 * heads * d;
  return {
      fmt::format("hybrid {}x{}x{} head_dim {} scale {} window {}", batch, h, w, d, scale, window),
      batch,
      h,
      w,
      {d,
       {{.heads = heads, .source = 0, .scale = scale, .significance = 1},
        {.heads = heads, .source = -1, .column = c, .window = window, .significance = 1}},
       c + 2 * heads * d},
      {{up(h, scale), up(w, scale)}}};
}

// The self-guided block: two groups take their columns of one list of keys.
Setup guided(int64_t batch, int64_t h, int64_t w, int d, int heads, int64_t keys) {
  return {fmt::format("guided {}x{}x{} head_dim {} keys {}", batch, h, w, d, keys),
          batch,
          h,
          w,
          {d,
           {{.heads = heads, .source = 0, .column = 0},
            {.heads = heads, .source = 0, .column = 2 * heads * d}},
           2 * heads * d},
          {{1, keys}}};
}

// Full attention to the tokens themselves, all columns in proj, lepe in the middle.
Setup full_attention(int64_t batch, int64_t h, int64_t w, int d, int heads) {
  const int64_t c = heads * d;
  return {fmt::format("full {}x{}x{} head_dim {} heads {}", batch, h, w, d, heads),
          batch,
          h,
          w,
          {d, {{.heads = heads, .column = 2 * c}}, c},
          {}};
}

// Windows on maps of several scales, one key map each.
Setup multi_scale(int64_t batch, int64_t h, int64_t w, int d, std::vector<int> scales, int window) {
  Setup s{fmt::format("scales {}x{}x{} head_dim {} window {}", batch, h, w, d, window),
          batch,
          h,
          w,
          {d, {}, 0},
          {}};
  for (size_t i = 0; i < scales.size(); ++i) {
    s.spec.groups.push_back({.heads = 1 + int(i),
                             .source = int(i),
                             .window = window,
                             .scale = scales[i],
                             .significance = 0.5 + double(i)});
    s.kv.push_back({up(h, scales[i]), up(w, scales[i])});
  }
  s.spec.lepe_column = s.channels();
  return s;
}

}  // namespace

TEST_CASE("attention: hybrid groups against the composed form, at any map size") {
  check_setup(hybrid(1, 1, 1, 4, 1, 8));
  check_setup(hybrid(2, 3, 7, 8, 1, 2));
  check_setup(hybrid(1, 8, 10, 24, 1, 4));
  check_setup(hybrid(3, 7, 7, 8, 1, 1));
  check_setup(hybrid(1, 9, 8, 8, 1, 1));  // significance of more keys than a tile of any kernel
  check_setup(hybrid(1, 13, 15, 33, 1, 8));
  check_setup(hybrid(1, 14, 14, 32, 1, 2));
  check_setup(hybrid(1, 15, 8, 64, 1, 2, 3));
}

TEST_CASE("attention: lists of keys against the composed form") {
  check_setup(guided(1, 1, 1, 4, 1, 1));
  check_setup(guided(2, 7, 7, 32, 1, 60));
  check_setup(guided(1, 10, 13, 24, 1, 147));
  check_setup(guided(1, 3, 8, 33, 2, 307));
  check_setup(guided(1, 2, 3, 5, 1, 2500));
  // One more than whole tiles: 65 queries, 17 columns, 33 keys.
  check_setup(guided(1, 5, 13, 17, 1, 33));
  // 400 queries of one head are cut in chunks, whose gradients of the keys are added.
  check_setup(guided(1, 20, 20, 8, 1, 49));
}

TEST_CASE("attention: full attention against the composed form") {
  check_setup(full_attention(2, 7, 7, 32, 3));
  check_setup(full_attention(1, 3, 1, 64, 1));
  check_setup(full_attention(1, 13, 14, 8, 1));
}

TEST_CASE("attention: windows of several scales against the composed form") {
  check_setup(multi_scale(1, 14, 15, 4, {1, 2, 4}, 7));
  check_setup(multi_scale(2, 13, 10, 4, {8, 2}, 3));
  // Windows of 2 x 2 keys of 16 x 16 tokens: their queries are cut in chunks, border ones have few.
  check_setup(multi_scale(1, 17, 16, 8, {8}, 2));
}

TEST_CASE("attention: large logits neither overflow nor lose the gradient") {
  const Setup s = hybrid(1, 8, 8, 32, 1, 2);
  // Scores of 1e4 / 3 on average, and up to 1e4 * sqrt(32). That of float32 is off by 1e4 * 2^-24
  // at most: inputs by 0.6 * 2^-24 of it, the sum of 32 products by 0.3 * 2^-24 * sqrt(32). So is a
  // probability, relatively, and the output no more.
  const std::vector<Tensor> in = s.inputs(100);
  const std::vector<Tensor> expected = reference(s, in);
  CHECK(relative_error(op(s, in)[0], expected[0]) < 1e-9);
  for (const Device device : devices()) {
    std::vector<Tensor> leaves;
    for (const Tensor& t : in) leaves.push_back(autograd::leaf(t.to(Dtype::f32).to(device)));
    const Tensor y = op(s, leaves)[0];
    check_close(y.detach(), expected[0], 1e4 * 0x1p-24);
    autograd::backward({y}, {full(y.shape(), 1, Dtype::f32, device)});
    for (const Tensor& leaf : leaves)
      for (const float v : to_vector<float>(autograd::grad_of(leaf))) REQUIRE(std::isfinite(v));
  }
}

TEST_CASE("attention: what is not a number stays so, in its rows alone") {
  std::vector<std::pair<Device, Dtype>> settings{
      {{}, Dtype::f32}, {{}, Dtype::f64}, {{}, Dtype::bf16}};
  if (have_cuda()) settings.insert(settings.end(), {{kCuda, Dtype::f32}, {kCuda, Dtype::bf16}});
  const int64_t rows = 40, row = 7, head = 1;
  // With few keys, and with more than a kernel keeps at once.
  for (const int64_t keys : {49, 200}) {
    const Setup s = guided(1, 1, rows, 8, 1, keys);
    for (const auto& [device, dtype] : settings)
      for (const double bad : {double(NAN), double(INFINITY)}) {
        CAPTURE(name_of(dtype));
        CAPTURE(keys);
        CAPTURE(bad);
        std::vector<Tensor> in = s.inputs();
        in[0].span<double>()[size_t(row * in[0].dim(3) + head * 8)] = bad;
        for (size_t i = 0; i < in.size(); ++i)
          in[i] = in[i].to(i == 1 || i == 2 ? acc_dtype(dtype) : dtype).to(device);
        const std::vector<double> y = to_vector<double>(op(s, in)[0].to(Device{}));
        for (size_t i = 0; i < y.size(); ++i)
          CHECK(std::isnan(y[i]) == (int64_t(i) / 16 == row && int64_t(i) / 8 % 2 == head));
      }
  }
}

TEST_CASE("attention: significance of thousands of queries is exact in float32") {
  const Setup s = hybrid(1, 56, 56, 4, 1, 8);
  std::vector<Tensor> f32;
  for (const Tensor& t : s.inputs()) f32.push_back(t.to(Dtype::f32));
  const Tensor significance = op(s, f32)[1];
  // Each query gives 1 to its keys: over tokens, 64 for the 8 x 8 of a global key, 1 for local
  // ones.
  double sum = 0;
  for (const float v : significance.span<float>()) sum += double(v);
  CHECK(std::abs(sum / (64 + 64) - 1) < 1e-6);
  CHECK(relative_error(significance, op(s, s.inputs())[1]) < 1e-6);
}

TEST_CASE("attention: products of bf16 against products of float32 of the same operands") {
  // Odd numbers of keys, queries and columns leave half a pair; 25 keys, half a vector.
  for (const Setup& s : {hybrid(1, 9, 10, 32, 1, 2), guided(2, 11, 11, 24, 1, 147),
                         guided(1, 3, 7, 33, 1, 61), guided(1, 20, 20, 7, 1, 49)}) {
    CAPTURE(s.name);
    std::vector<std::vector<Tensor>> found;
    for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
      std::vector<Tensor> in;
      for (const Tensor& t : s.inputs(2)) in.push_back(t.to(Dtype::bf16).to(dtype));
      // Without LePE, which would round the output of the heads once more.
      for (const size_t i : {1, 2}) in[i] = zeros(in[i].shape(), Dtype::f32);
      for (Tensor& t : in) t = autograd::leaf(t);
      std::vector<Tensor> all = op(s, in);
      autograd::backward({all[0]}, {random(all[0].shape(), 9).to(Dtype::bf16).to(dtype)});
      for (const size_t i : {0, 3}) all.push_back(autograd::grad_of(in[i]));
      for (Tensor& t : all) t = t.detach();
      found.push_back(all);
    }
    const std::vector<Tensor>&b = found[0], &f = found[1];
    // A probability or its gradient is rounded, and the result: the bound is that of OpCase.
    for (size_t i = 0; i < b.size(); ++i)
      if (b[i].dtype() == Dtype::bf16) check_close(b[i], f[i], 4 * 0x1p-9);
    // What keys receive is not rounded.
    if (b[1].dtype() == Dtype::f32) check_close(b[1], f[1], 1e-6);
    // Where the processor multiplies no bf16, it is widened, and only the result is rounded.
    const bool same = to_vector<double>(b[0]) == to_vector<double>(f[0].to(Dtype::bf16));
    CHECK(same == !has_bf16_products());
  }
}

TEST_CASE("attention: the same bits for any number of threads") {
  const int threads = num_threads();
  for (const Setup& s : {hybrid(1, 22, 25, 8, 1, 4), guided(2, 20, 20, 32, 1, 60)})
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      CAPTURE(name_of(dtype));
      std::vector<std::vector<float>> first;
      for (const int n : {1, 2, 3}) {
        set_num_threads(n);
        std::vector<Tensor> in;
        for (const Tensor& t : s.inputs())
          in.push_back(autograd::leaf(t.to(in.size() == 1 || in.size() == 2 ? Dtype::f32 : dtype)));
        std::vector<Tensor> all = op(s, in);
        autograd::backward({all[0]}, {random(all[0].shape(), 9).to(dtype)});
        for (const Tensor& t : in) all.push_back(autograd::grad_of(t));
        std::vector<std::vector<float>> bits;
        for (const Tensor& t : all) bits.push_back(to_vector<float>(t.detach().to(Dtype::f32)));
        if (first.empty()) first = bits;
        CHECK(bits == first);
      }
    }
  set_num_threads(threads);
}

TEST_CASE("attention: significance is detached, and made only where it counts") {
  const Setup s = hybrid(1, 7, 7, 4, 1, 2);
  std::vector<Tensor> in;
  for (const Tensor& t : s.inputs()) in.push_back(autograd::leaf(t));
  const AttentionResult r = attention(in[0], {in[3]}, in[1], in[2], s.spec);
  CHECK(autograd::requires_grad(r.out));
  CHECK_FALSE(autograd::requires_grad(r.significance));
  const Setup plain = guided(1, 7, 7, 4, 1, 10);
  const std::vector<Tensor> other = plain.inputs();
  CHECK_FALSE(attention(other[0], {other[3]}, other[1], other[2], plain.spec).significance);
}

TEST_CASE("attention: gradients of keys alone, and added to earlier ones") {
  const Setup s = guided(1, 5, 5, 8, 1, 12);
  const std::vector<Tensor> in = s.inputs();
  const Tensor keys = autograd::leaf(in[3]), all = autograd::leaf(in[3]);
  std::vector<Tensor> leaves;
  for (const Tensor& t : in) leaves.push_back(autograd::leaf(t));
  const Tensor dy = random({1, 5, 5, s.channels()}, 9);
  autograd::backward({op(s, leaves)[0]}, {dy});
  autograd::backward({op(s, {in[0], in[1], in[2], keys})[0]}, {dy});
  CHECK(relative_error(autograd::grad_of(keys), autograd::grad_of(leaves[3])) == 0);
}

TEST_CASE("attention: multiply-adds, of windows that the map cuts too") {
  const Setup s = hybrid(1, 9, 10, 4, 1, 2);
  profile::start();
  op(s, s.inputs());
  auto rows = profile::stop();
  // All 90 queries see the 5 x 5 merged keys; those of windows of 7 and 2 rows, 7 and 3 columns see
  // their own. Two products of head_dim 4.
  CHECK(rows["attention.fwd"].macs == 2 * 4 * (90 * 25 + (7 * 7 + 2 * 2) * (7 * 7 + 3 * 3)));
  CHECK(rows["attention.fwd"].flops == 2 * rows["attention.fwd"].macs);
  CHECK(rows["lepe.fwd"].macs == 9 * 90 * 8);
}

TEST_CASE("attention: wrong arguments are named") {
  const Setup s = hybrid(1, 7, 7, 4, 1, 2);
  const std::vector<Tensor> in = s.inputs();
  const auto run_with = [&](const AttentionSpec& spec, const Tensor& kv) {
    attention(in[0], {kv}, in[1], in[2], spec);
  };
  AttentionSpec spec = s.spec;
  spec.head_dim = 65;
  CHECK_THROWS_WITH_AS(run_with(spec, in[3]), "attention: head_dim: expected 1 to 64, found 65",
                       Error);
  spec = s.spec;
  spec.lepe_column = 12;
  CHECK_THROWS_WITH_AS(
      run_with(spec, in[3]),
      "attention: proj: expected each column to be named once, but columns 12 on are named twice",
      Error);
  spec = s.spec;
  spec.groups[0].scale = 4;
  CHECK_THROWS_WITH_AS(run_with(spec, in[3]),
                       "attention: group: scale 4 of a map 7 x 7 expects keys 2 x 2, found 4 x 4",
                       Error);
  CHECK_THROWS_WITH_AS(run_with(s.spec, zeros({1, 4, 4, 9}, Dtype::f64)),
                       "attention: kv[0]: expected 8 columns, as the spec names, found 9", Error);
}
