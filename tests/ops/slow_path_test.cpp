// Shapes that miss the fast path of an operation on cuda are counted, with the bytes of the path
// that they take.
#include <doctest/doctest.h>

#include <functional>

#include "autograd/tape.h"
#include "core/backend.h"
#include "core/profile.h"
#include "ops/add_layer_norm/add_layer_norm.h"
#include "ops/argsort/argsort.h"
#include "ops/attention/attention.h"
#include "ops/conv2d/conv2d.h"
#include "ops/layer_norm/layer_norm.h"
#include "tests/support/op_case.h"

using namespace sg;

namespace {

const Device kCuda{DeviceType::cuda, 0};

using Rows = std::map<std::string, profile::Row>;
Rows profiled(const std::function<void()>& work) {
  profile::start(kCuda);
  work();
  return profile::stop();
}

Tensor values(Shape shape, Dtype dtype, uint64_t stream) {
  return test::random(shape, stream).to(dtype).to(kCuda);
}
Tensor leaf(Shape shape, Dtype dtype, uint64_t stream) {
  return autograd::leaf(values(shape, dtype, stream), {});
}
void backward(const Tensor& y) { autograd::backward({y}, {full(y.shape(), 1, y.dtype(), kCuda)}); }

void check_row(const Rows& rows, const char* op, int64_t slow_calls, double bytes) {
  CAPTURE(op);
  REQUIRE(rows.contains(op));
  CHECK(rows.at(op).slow_calls == slow_calls);
  CHECK(rows.at(op).bytes == bytes);
}

}  // namespace

TEST_CASE("slow paths: rows that registers do not hold") {
  if (!available(kCuda)) return;
  for (const int64_t c : {16, 12}) {
    const bool slow = c % 8 != 0;
    const Rows p = profiled([&] {
      const Tensor x = leaf({3, 5, c}, Dtype::bf16, 1), w = leaf({c}, Dtype::f32, 2),
                   b = leaf({c}, Dtype::f32, 3);
      backward(layer_norm(x, w, b, 1e-6));
      const Tensor keep = full({3}, 1, Dtype::f32, kCuda);
      const AddLayerNorm r = add_layer_norm(x, leaf({3, 5, c}, Dtype::bf16, 4), keep, w, b, 1e-6);
      autograd::backward({r.sum, r.norm}, {full(x.shape(), 1, Dtype::bf16, kCuda),
                                           full(x.shape(), 1, Dtype::bf16, kCuda)});
    });
    const double map = double(3 * 5 * c * 2);
    check_row(p, "layer_norm.fwd", slow, (slow ? 4 : 2) * map);
    check_row(p, "layer_norm.bwd", slow, (slow ? 5 : 3) * map);
    // The sum and the norm one by one: 3 and 4 maps.
    check_row(p, "add_layer_norm.fwd", slow, (slow ? 7 : 4) * map);
    // A copy 2, the norm 6, the branch 2.
    check_row(p, "add_layer_norm.bwd", slow, (slow ? 10 : 5) * map);
  }
}

TEST_CASE("slow paths: windows that are copied to a matrix") {
  if (!available(kCuda)) return;
  const auto run = [](Dtype dtype, int64_t channels, int64_t filters) {
    return profiled([&] {
      const Tensor x = leaf({2, 4, 4, channels}, dtype, 1),
                   w = autograd::leaf(values({filters, 2, 2, channels}, dtype, 2),
                                      zeros({filters, 2, 2, channels}, Dtype::f32, kCuda));
      backward(conv2d(x, w, {}, {.stride = 2}));
    });
  };
  const auto bytes = [](int64_t size, int64_t channels, int64_t filters, int64_t pitch) {
    const int64_t usual = 2 * 16 * channels + filters * 4 * channels + 2 * 4 * filters;
    return std::pair{double(size * usual), double(size * 2 * 2 * 4 * pitch)};
  };
  {
    const auto [usual, matrix] = bytes(2, 8, 8, 32);
    const Rows merge = run(Dtype::bf16, 8, 8);
    check_row(merge, "conv2d.fwd", 0, usual);
    check_row(merge, "conv2d.bwd", 0, 2 * usual);
  }
  {  // Channels of less than one access: the usual way, with its bytes.
    const auto [usual, matrix] = bytes(2, 3, 8, 16);
    const Rows stem = run(Dtype::bf16, 3, 8);
    check_row(stem, "conv2d.fwd", 0, usual + matrix);
    check_row(stem, "conv2d.bwd", 0, 2 * (usual + matrix));
  }
  {
    const auto [usual, matrix] = bytes(4, 8, 8, 32);
    const Rows single = run(Dtype::f32, 8, 8);
    check_row(single, "conv2d.fwd", 1, usual + matrix);
    check_row(single, "conv2d.bwd", 1, 2 * (usual + matrix));
  }
}

TEST_CASE("slow paths: maps of more than 4096 tokens are ranked in passes") {
  if (!available(kCuda)) return;
  for (const int64_t side : {64, 65}) {
    const Rows p = profiled([&] { argsort(values({2, side, side}, Dtype::f32, 1)); });
    check_row(p, "argsort", side > 64, double(2 * side * side) * (side > 64 ? 4 * 32 : 8));
  }
}

TEST_CASE("slow paths: attention over more keys than a block holds") {
  if (!available(kCuda)) return;
  for (const int64_t side : {8, 24}) {
    const bool slow = side > 8;
    const AttentionSpec spec{.head_dim = 16,
                             .groups = {{.heads = 1, .column = 16, .significance = 1}},
                             .lepe_column = 48};
    const Rows rows = profiled([&] {
      const Tensor proj = leaf({1, side, side, 64}, Dtype::bf16, 1),
                   w = leaf({3, 3, 16}, Dtype::f32, 2), b = leaf({16}, Dtype::f32, 3);
      backward(attention(proj, {}, w, b, spec).out);
    });
    // Queries, keys, values and the result are maps of one size. Forward reads queries and keys
    // again for what keys receive; backward queries and their gradients.
    const double map = double(side * side * 16 * 2);
    check_row(rows, "attention.fwd", slow, (slow ? 6 : 4) * map);
    check_row(rows, "attention.bwd", slow, (slow ? 10 : 8) * map);
  }
}
