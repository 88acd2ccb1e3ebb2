#include "ops/conv2d/conv2d.h"

#include <doctest/doctest.h>

#include <cmath>
#include <utility>

#include "core/cpu/parallel.h"
#include "core/profile.h"
#include "ops/conv2d/tuning_cuda.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"
#include "tests/support/weighted_op.h"

using namespace sg;
using namespace sg::test;

namespace {

struct Sizes {
  int64_t batch, height, width, cin, cout, kh, kw;
  Conv2dGeometry geometry;
};

OpCase conv_case(const Sizes& s, bool bias) {
  const Conv2dGeometry g = s.geometry;
  OpCase test;
  test.name =
      fmt::format("x {} x {} x {} x {}, w {} x {} x {}, stride {}, padding {} {} {} {}, bias {}",
                  s.batch, s.height, s.width, s.cin, s.cout, s.kh, s.kw, g.stride, g.top, g.left,
                  g.bottom, g.right, bias);
  test.inputs = {test::random({s.batch, s.height, s.width, s.cin}, 1),
                 test::random({s.cout, s.kh, s.kw, s.cin}, 2)};
  test.roles = {Role::activation, Role::weight, Role::weight};
  if (bias) test.inputs.push_back(test::random({s.cout}, 3));
  test.op = [=](auto& in) -> std::vector<Tensor> {
    return {conv2d(in[0], in[1], bias ? in[2] : Tensor(), g)};
  };
  test.reference = [=](auto& in) -> std::vector<Tensor> {
    return {naive::conv2d(in[0], in[1], bias ? in[2] : Tensor(), g.stride, g.top, g.left, g.bottom,
                          g.right)};
  };
  test.terms = std::max(s.kh * s.kw * std::max(s.cin, s.cout), s.batch * s.height * s.width);
  return test;
}

WeightedOp with(const Conv2dGeometry& geometry) {
  return
      [=](const Tensor& x, const Tensor& w, const Tensor& b) { return conv2d(x, w, b, geometry); };
}

}  // namespace

TEST_CASE("conv2d: value and gradients against the naive form") {
  for (const Sizes& s : {
           Sizes{2, 9, 8, 3, 5, 3, 3, {2, 1, 1, 1, 1}},  // the stem
           Sizes{1, 6, 7, 4, 3, 3, 3, {1, 1, 1, 1, 1}},
           Sizes{2, 13, 18, 32, 16, 3, 3, {1, 1, 1, 1, 1}},  // Winograd's algorithm in float32
           Sizes{2, 8, 8, 2, 3, 4, 4, {4, 0, 0, 0, 0}},      // a merge
           Sizes{1, 5, 7, 3, 2, 4, 4, {4, 0, 0, 3, 1}},   // a merge of a map that does not divide
           Sizes{1, 7, 5, 1, 1, 2, 3, {1, 1, 0, 0, 2}},   // asymmetric
           Sizes{2, 8, 9, 2, 2, 2, 1, {3, 0, 0, 0, 0}},   // elements between windows
           Sizes{1, 8, 10, 2, 3, 3, 3, {2, 0, 0, 0, 0}},  // a last row that no window reaches
           Sizes{1, 9, 9, 2, 3, 3, 3, {4, 0, 0, 0, 0}},   // and beyond the last one
           Sizes{3, 1, 1, 7, 17, 1, 1, {1, 0, 0, 0, 0}},
           Sizes{2, 5, 6, 8, 8, 3, 3, {2, 1, 1, 1, 1}},  // channels of whole accesses
           Sizes{2, 4, 7, 8, 5, 2, 2, {2, 0, 0, 0, 1}},
           Sizes{1, 1, 2, 2, 2, 3, 3, {1, 2, 2, 2, 2}},  // a map smaller than the kernel
       })
    for (const bool bias : {false, true}) run(conv_case(s, bias));
}

TEST_CASE("conv2d: what has kernels of its own on cuda") {
  const int before = conv2d_cuda::tuning.multiprocessors;
  for (const auto& [multiprocessors, s] : {
           // 3x3 between maps of equal channels: tiles of 8 x 16 windows, or less; of 4 x 16.
           std::pair{1, Sizes{1, 9, 18, 64, 64, 3, 3, {1, 1, 1, 1, 1}}},
           {132, Sizes{2, 9, 8, 64, 64, 3, 3, {2, 1, 1, 1, 1}}},
           {1, Sizes{1, 5, 5, 96, 96, 3, 3, {1, 0, 2, 1, 0}}},
           {132, Sizes{1, 5, 6, 96, 96, 3, 3, {2, 2, 0, 1, 2}}},
           // Merges: sums of eight parts; tiles of each width; 130 windows, which are two tiles.
           {132, Sizes{1, 14, 19, 8, 24, 8, 8, {8, 0, 0, 2, 5}}},
           {132, Sizes{2, 8, 11, 8, 96, 4, 4, {4, 0, 0, 0, 1}}},
           {132, Sizes{1, 3, 4, 96, 96, 2, 2, {2, 0, 0, 1, 0}}},
           {132, Sizes{1, 5, 6, 40, 128, 2, 2, {2, 0, 0, 1, 0}}},
           {132, Sizes{1, 26, 19, 8, 16, 2, 2, {2, 0, 0, 0, 1}}},
           {1, Sizes{1, 26, 19, 8, 72, 2, 2, {2, 0, 0, 0, 1}}},
           // Wide channels: cuDNN's, where it is there (tests/cudnn); of odd sizes, and strided.
           {132, Sizes{2, 5, 7, 128, 136, 3, 3, {1, 1, 1, 1, 1}}},
           {132, Sizes{1, 6, 5, 136, 128, 3, 2, {2, 1, 0, 2, 1}}},
           // Not one: the last row is in no window.
           {132, Sizes{1, 5, 5, 8, 8, 2, 2, {2, 0, 0, 0, 0}}},
       }) {
    conv2d_cuda::tuning.multiprocessors = multiprocessors;  // one: a block takes several tiles
    OpCase test = conv_case(s, multiprocessors > 1);
    test.reference = nullptr;  // the f64 that cuda is compared with has been, above
    run(test);
  }
  conv2d_cuda::tuning.multiprocessors = before;
}

TEST_CASE("conv2d: what computes it can be told") {
  CHECK(conv2d_choices({}).at(0).starts_with("convolutions: oneDNN "));
  if (have_cuda()) CHECK(conv2d_choices(kCuda).at(0).starts_with("convolutions of wide maps: "));
}

TEST_CASE("conv2d: each gradient alone") {
  for (int only = 0; only < 3; ++only) {
    OpCase test = conv_case({1, 5, 5, 2, 3, 3, 3, {2, 1, 1, 1, 1}}, true);
    test.wanted = {only == 0, only == 1, only == 2};
    run(test);
  }
}

TEST_CASE("conv2d: on cuda, images one by one") {
  struct Bound {
    int64_t before = std::exchange(conv2d_cuda::tuning.matrix_bytes, 1);
    ~Bound() { conv2d_cuda::tuning.matrix_bytes = before; }
  } bound;
  run(conv_case({3, 4, 3, 2, 3, 3, 3, {2, 1, 1, 1, 1}}, true));
}

TEST_CASE("conv2d: slices of windows, and rows of dx that several threads reach") {
  const Tensor x_value = test::random({2, 40, 41, 12}, 1), w_value = test::random({8, 3, 3, 12}, 2);
  const auto differentiate = [&](bool naive_form) {
    const Tensor x = autograd::leaf(x_value), w = autograd::leaf(w_value);
    const Tensor y =
        naive_form ? naive::conv2d(x, w, {}, 1, 1, 1, 1, 1) : conv2d(x, w, {}, {1, 1, 1, 1, 1});
    autograd::backward({y}, {test::random(y.shape(), 3)});
    return std::vector{y.detach(), autograd::grad_of(x), autograd::grad_of(w)};
  };
  const std::vector<Tensor> expected = differentiate(true);
  const int before = num_threads();
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    const std::vector<Tensor> found = differentiate(false);
    for (size_t i = 0; i < found.size(); ++i) CHECK(relative_error(found[i], expected[i]) < 1e-11);
  }
  set_num_threads(before);
}

// Bands of rows, of maps that are widened to 44 tiles from 43; several images at a time; several
// blocks of channels and of filters in the gradient of the weights.
TEST_CASE("conv2d: pieces of Winograd's algorithm, in bounded memory") {
  const int before = num_threads();
  set_num_threads(1);
  for (const auto& [shape, filters] :
       {std::pair{Shape{1, 170, 171, 528}, int64_t{16}}, {Shape{29, 20, 21, 48}, 528}}) {
    CAPTURE(shape.str());
    const Tensor x = test::random(shape, 1).to(Dtype::f32);
    const Tensor w = test::random({filters, 3, 3, shape[3]}, 2).to(Dtype::f32);
    const Tensor dy = test::random(shape.with_last(filters), 3).to(Dtype::f32);
    const auto run = [&](Dtype dtype, auto&& around) {
      const Tensor x_in = x.to(dtype), w_in = w.to(dtype), dy_in = dy.to(dtype);
      std::vector<Tensor> out{empty(dy.shape(), dtype), empty(x.shape(), dtype),
                              empty(w.shape(), dtype)};
      const Conv2dGeometry g{1, 1, 1, 1, 1};
      Stream& stream = x.stream();
      around([&] { kernels::conv2d_fwd(stream, x_in, w_in, {}, g, out[0]); });
      around([&] { kernels::conv2d_bwd(stream, dy_in, x_in, w_in, g, {out[1]}, {}, {}); });
      around([&] { kernels::conv2d_bwd(stream, dy_in, x_in, w_in, g, {}, {out[2]}, {}); });
      return out;
    };
    std::vector<double> extra;  // bytes besides arguments and results
    Allocator& memory = Allocator::of({});
    const auto found = run(Dtype::f32, [&](auto compute) {
      memory.reset_peak();
      const size_t in_use = memory.stats().in_use;
      compute();
      extra.push_back(double(memory.stats().peak - in_use));
    });
    const auto expected = run(Dtype::f64, [](auto compute) { compute(); });
    const int64_t pixels = x.numel() / shape[3];
    for (size_t i = 0; i < 3; ++i) {
      const int64_t terms = i == 2 ? pixels : 9 * std::max<int64_t>(shape[3], filters);
      CHECK(relative_error(found[i], expected[i]) <
            8 * std::ldexp(1.0, -24) * std::sqrt(double(terms)) + 1e-6);
    }
    constexpr double kMiB = 1 << 20;  // bounds of winograd.h
    const auto w_bytes = double(w.bytes());
    CHECK(extra[0] < 4 * w_bytes + 160 * kMiB);
    CHECK(extra[1] < 5 * w_bytes + 160 * kMiB);
    CHECK(extra[2] < std::max(w_bytes, 36 * kMiB) + 112 * kMiB);
  }
  set_num_threads(before);
}

TEST_CASE("conv2d: the same bits with 1, 2, 3 and 8 threads") {
  struct Case {
    Shape x, w;
    Conv2dGeometry geometry;
  };
  // Winograd's windows, in two pieces each, overlapping ones of stride 2, and a merge; in bf16
  // Winograd's for y and dx, for dw, and sums over 2^14 windows.
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    for (const Case& c : {Case{{17, 16, 16, 32}, {32, 3, 3, 32}, {1, 1, 1, 1, 1}},
                          Case{{1, 68, 70, 32}, {528, 3, 3, 32}, {1, 1, 1, 1, 1}},
                          Case{{4, 64, 64, 16}, {24, 3, 3, 16}, {2, 1, 1, 1, 1}},
                          Case{{2, 32, 32, 128}, {128, 3, 3, 128}, {1, 1, 1, 1, 1}},
                          Case{{2, 32, 16, 256}, {128, 3, 3, 256}, {1, 1, 1, 1, 1}},
                          Case{{2, 64, 64, 16}, {16, 3, 3, 16}, {1, 1, 1, 1, 1}},
                          Case{{4, 128, 128, 8}, {16, 3, 3, 8}, {2, 1, 1, 1, 1}},
                          Case{{2, 32, 32, 48}, {48, 4, 4, 48}, {4}}})
      check_same_bits_of_threads(with(c.geometry), c.x, c.w, dtype);
}

// Winograd's algorithm in bf16, of y and dx in the first, of dw in the second; with AMX dw in parts
// of one image, strided in the third, and of two calls in the fourth. Windows that do not overlap,
// in two slices: they tile the map or leave pixels between them.
TEST_CASE("conv2d: wide maps in bf16") {
  struct Case {
    Shape shape;
    int64_t filters, side;
    Conv2dGeometry geometry;
  };
  for (const auto& [shape, filters, side, geometry] :
       {Case{{2, 33, 32, 128}, 144, 3, {1, 1, 1, 1, 1}},
        Case{{2, 64, 65, 16}, 32, 3, {1, 1, 1, 1, 1}},
        Case{{1, 61, 64, 32}, 16, 3, {2, 1, 1, 1, 1}}, Case{{2, 23, 23, 832}, 8, 2, {1}},
        Case{{1, 61, 64, 32}, 16, 3, {1, 2, 0, 2, 0}},
        Case{{1, 61, 64, 32}, 16, 3, {1, 0, 2, 0, 2}}, Case{{2, 80, 82, 64}, 16, 2, {2}},
        Case{{2, 121, 122, 64}, 16, 2, {3, 1, 0, 0, 1}}}) {
    CAPTURE(shape.str());
    const auto step = [&](Dtype dtype) {
      const auto input = [&](Shape s, uint64_t stream) {
        return test::random(s, stream).to(Dtype::bf16).to(dtype);
      };
      const Tensor x = autograd::leaf(input(shape, 1));
      const auto weight = [&](Shape s, uint64_t stream) {
        return autograd::leaf(input(s, stream), zeros(s, acc_dtype(dtype)));
      };
      const Tensor w = weight({filters, side, side, shape[3]}, 2), b = weight({filters}, 3);
      const Tensor y = conv2d(x, w, b, geometry);
      const Tensor dy = input(y.shape(), 4);
      autograd::backward({y}, {dy});
      autograd::backward({conv2d(x, w, b, geometry)}, {dy});  // adds to the gradients
      return std::vector{y.detach(), autograd::grad_of(x), autograd::grad_of(w),
                         autograd::grad_of(b)};
    };
    const std::vector<Tensor> found = step(Dtype::bf16), expected = step(Dtype::f64);
    // A rounding of the result, and one more of a gradient that is a sum of two.
    for (size_t i = 0; i < 4; ++i) check_close(found[i], expected[i], std::ldexp(2.0, -9));
    CHECK(found[2].dtype() == Dtype::f32);
    // Sums of f32 alone: an operand or a sum that was rounded to bf16 would err by 2^-10 and more.
    CHECK(relative_error(found[2], expected[2]) < 1e-5);
  }
}

TEST_CASE("conv2d: f32 weights of a bf16 x are rounded where they are multiplied") {
  check_f32_weights(with(Conv2dGeometry{1, 1, 1, 1, 1}), {2, 33, 40, 16}, {24, 3, 3, 16});
  check_f32_weights(with(Conv2dGeometry{4}), {2, 32, 32, 48}, {48, 4, 4, 48});
}

TEST_CASE("conv2d: the same bits twice, and nothing allocated the second time") {
  check_steady(with(Conv2dGeometry{2, 1, 1, 1, 1}), {2, 33, 40, 16}, {24, 3, 3, 16}, Dtype::f32);
}

TEST_CASE("conv2d: adding to a gradient is part of its own row of a profile") {
  const Tensor x = autograd::leaf(test::random({1, 8, 8, 16}, 1).to(Dtype::f32)),
               w = autograd::leaf(test::random({16, 3, 3, 16}, 2).to(Dtype::f32));
  const Tensor y[] = {conv2d(x, w, {}, {1, 1, 1, 1, 1}), conv2d(x, w, {}, {1, 1, 1, 1, 1})};
  const Tensor dy = y[0].detach();
  profile::start();
  autograd::backward({y[0], y[1]}, {dy, dy});
  const auto rows = profile::stop();
  REQUIRE(rows.size() == 1);
  CHECK(rows.at("conv2d.bwd").calls == 2);
}

TEST_CASE("conv2d: without images, weights have a gradient of zero") {
  for (const auto& [dtype, device] :
       {std::pair{Dtype::f32, Device{}}, {Dtype::f64, Device{}}, {Dtype::f32, kCuda}}) {
    if (device == kCuda && !have_cuda()) continue;
    const Tensor w = autograd::leaf(full({3, 2, 2, 5}, 1, dtype, device));
    const Tensor y = conv2d(zeros({0, 4, 4, 5}, dtype, device), w, {}, {2});
    CHECK(y.shape() == Shape{0, 2, 2, 3});
    autograd::backward({y}, {y.detach()});
    CHECK(relative_error(autograd::grad_of(w), zeros({3, 2, 2, 5}, dtype)) == 0);
  }
}

TEST_CASE("conv2d: wrong arguments are named") {
  const Tensor x = zeros({1, 5, 6, 2}), w = zeros({4, 3, 3, 2});
  CHECK_THROWS_WITH_AS(conv2d(x, zeros({4, 3, 3, 3}), {}, {}),
                       "conv2d: x: expected shape (1, 5, 6, 3), found (1, 5, 6, 2)", Error);
  CHECK_THROWS_WITH_AS(conv2d(x, w, zeros({2}), {}), "conv2d: b: expected shape (4), found (2)",
                       Error);
  CHECK_THROWS_WITH_AS(conv2d(x, w, {}, {0}), "conv2d: stride: expected at least 1, found 0",
                       Error);
  CHECK_THROWS_WITH_AS(conv2d(x, w, {}, {1, 3, 0, 0, 0}),
                       "conv2d: padding: expected less than the kernel's 3, found 3", Error);
  CHECK_THROWS_WITH_AS(conv2d(x, zeros({4, 8, 8, 2}), {}, {8, 0, 0, 2, 2}),
                       "conv2d: a kernel of 8 x 8 does not fit a map of 5 x 6, padded to 7 x 8",
                       Error);
}
