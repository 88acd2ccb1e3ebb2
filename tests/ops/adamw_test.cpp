#include "ops/adamw/adamw.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/cpu/parallel.h"
#include "tests/support/op_case.h"

using namespace sg;

namespace {

struct Buffers {
  Tensor p, g, m, v, ema, bf16_values;
  operator AdamWBuffers() { return {p, g, m, v, ema, bf16_values}; }
};

// All that a step depends on.
struct Settings {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.05;
  double ema_decay = 0;
  int64_t step = 1;
  double grad_scale = 1, clip_grad = 0;
  ClipMode clip_mode = ClipMode::norm;
  std::optional<double> ema_decay_of_step{};
};

Buffers buffers(int64_t n, Dtype dtype = Dtype::f64) {
  return {test::random({n}, 1).to(dtype),
          test::random({n}, 2).to(dtype),
          zeros({n}, dtype),
          zeros({n}, dtype),
          test::random({n}, 3).to(dtype),
          {}};
}

// Returns the norm, whether the step was applied, and the loss.
std::vector<double> step(Buffers b, const std::vector<AdamWSegment>& segments, const Settings& s,
                         const Tensor& loss = {}) {
  const Device device = b.p.device();
  const AdamWSettings settings{s.beta1,     s.beta2,     s.eps,      s.weight_decay,
                               s.ema_decay, s.clip_grad, s.clip_mode};
  const auto control = adamw_control({s.lr, s.step, s.grad_scale, s.ema_decay_of_step}, settings);
  Tensor outcome = zeros({kAdamWOutcome}, Dtype::f64, device);
  adamw(b, plan_adamw(segments, b.p.numel(), device), settings,
        from_vector<double>({control.begin(), control.end()}, {kAdamWControl}).to(device), loss,
        outcome);
  return to_vector<double>(outcome);
}

// The formula of the header, as torch.optim.AdamW and timm's ModelEma write it.
void literal(Buffers b, const std::vector<AdamWSegment>& segments, const Settings& s) {
  const std::span<double> p = b.p.span<double>(), g = b.g.span<double>(), m = b.m.span<double>(),
                          v = b.v.span<double>(), ema = b.ema.span<double>();
  for (const AdamWSegment& segment : segments)
    for (size_t i = size_t(segment.begin); i < size_t(segment.end); ++i) {
      const double grad = g[i] * s.grad_scale, lr = s.lr * segment.lr_scale;
      p[i] *= 1 - lr * (s.weight_decay * segment.weight_decay_scale);
      m[i] = s.beta1 * m[i] + (1 - s.beta1) * grad;
      v[i] = s.beta2 * v[i] + (1 - s.beta2) * grad * grad;
      const double bias1 = 1 - std::pow(s.beta1, s.step), bias2 = 1 - std::pow(s.beta2, s.step);
      p[i] -= lr / bias1 * m[i] / (std::sqrt(v[i]) / std::sqrt(bias2) + s.eps);
      ema[i] = s.ema_decay * ema[i] + (1 - s.ema_decay) * p[i];
    }
}

// One element after one step.
double one_step(double p, double g, const Settings& s, Dtype dtype = Dtype::f64) {
  const Buffers b{
      full({1}, p, dtype), full({1}, g, dtype), zeros({1}, dtype), zeros({1}, dtype), {}, {}};
  step(b, {{0, 1}}, s);
  return b.p.item();
}

}  // namespace

TEST_CASE("adamw: several steps against the literal loop, segments and all") {
  const std::vector<AdamWSegment> segments{
      {3, 20}, {20, 21, 1, 0}, {21, 21}, {40, 133, 0.5, 1}, {133, 1000, 2, 0.25}};
  for (const Dtype dtype : {Dtype::f64, Dtype::f32}) {
    Buffers b = buffers(1003, dtype);
    const Buffers before = buffers(1003, dtype);
    Buffers expected{b.p.to(Dtype::f64).clone(),   {},
                     zeros({1003}, Dtype::f64),    zeros({1003}, Dtype::f64),
                     b.ema.to(Dtype::f64).clone(), {}};
    for (int t = 1; t <= 10; ++t) {
      Settings s{.lr = 1e-2 / t, .ema_decay = 0.9, .step = t, .grad_scale = 0.25};
      b.g.copy_(test::random({1003}, uint64_t(100 + t)).to(dtype));
      expected.g = b.g.to(Dtype::f64);
      step(b, segments, s);
      literal(expected, segments, s);
    }
    // Ten steps with about ten roundings each; gradients are the same numbers in both.
    const double bound = (dtype == Dtype::f32 ? 0x1p-24 : 0x1p-53) * 20;
    CHECK(test::relative_error(b.p, expected.p) < bound);
    CHECK(test::relative_error(b.m, expected.m) < bound);
    CHECK(test::relative_error(b.v, expected.v) < bound);
    CHECK(test::relative_error(b.ema, expected.ema) < bound);
    // Outside of the segments nothing is touched.
    for (const auto& [now, then] :
         {std::pair{b.p, before.p}, {b.m, before.m}, {b.v, before.v}, {b.ema, before.ema}})
      for (const int64_t i : {0, 2, 21, 39, 1000, 1002})
        CHECK(to_vector<double>(now)[size_t(i)] == to_vector<double>(then)[size_t(i)]);
  }
}

TEST_CASE("adamw: decay is decoupled from the gradient and multiplied by the learning rate") {
  const Settings s{.lr = 1e-3, .weight_decay = 0.05};
  CHECK(std::abs(one_step(1, 0.1, s) - 0.99895) < 1e-9);
  CHECK(std::abs(one_step(1, 0.1, s, Dtype::f32) - 0.99895) < 0x1p-24);
}

TEST_CASE("adamw: eps is added after the bias correction, outside the root") {
  const Settings s{.lr = 1e-3, .weight_decay = 0};
  CHECK(std::abs(one_step(0, 1e-9, s) + 1e-3 / 11) < 1e-15);
  CHECK(std::abs(one_step(0, 1e-9, s, Dtype::f32) + 1e-3 / 11) < 1e-3 / 11 * 0x1p-20);
}

TEST_CASE("adamw: the EMA follows the step, from the first one, without correction") {
  // A constant gradient moves p by lr a step (eps aside): p_t = -lr t, so with e_0 = p_0 = 0
  //   e_t = -lr (t - d (1 - d^t) / (1 - d)).
  const double lr = 1e-3, d = 0.99;
  for (const Dtype dtype : {Dtype::f64, Dtype::f32}) {
    const Buffers b{zeros({5}, dtype), full({5}, 3, dtype), zeros({5}, dtype),
                    zeros({5}, dtype), zeros({5}, dtype),   {}};
    for (int t = 1; t <= 200; ++t) {
      step(b, {{0, 5}}, {.lr = lr, .eps = 1e-30, .weight_decay = 0, .ema_decay = d, .step = t});
      const double expected = -lr * (t - d * (1 - std::pow(d, t)) / (1 - d));
      // m and v, equal to 3 and 9 but for the correction, carry a rounding each step; 1 - 0.999^t
      // is computed in float64 from numbers near 1.
      const double bound =
          (dtype == Dtype::f32 ? 0x1p-24 : 0x1p-53) * (20 + 4 * t) + 1000 * 0x1p-53;
      CHECK(std::abs(to_vector<double>(b.ema)[4] - expected) < bound * std::abs(expected));
    }
  }
}

TEST_CASE("adamw: without a decay the EMA is left alone") {
  const Buffers b = buffers(20), before = buffers(20);
  step(b, {{0, 20}}, {});
  CHECK(to_vector<double>(b.ema) == to_vector<double>(before.ema));
}

TEST_CASE("adamw: small decays are not lost to rounding in float32") {
  // 1 - 1e-8 is 1 in float32; decay 1e-8 and step 1e-7 together move p = 1 by 1.1e-7 = 1.85 ulp.
  const Buffers b{full({1}, 1), full({1}, 1), zeros({1}), zeros({1}), {}, {}};
  step(b, {{0, 1}}, {.lr = 1e-7, .weight_decay = 0.1});
  CHECK(b.p.item() == 1 - 0x1p-23);
}

TEST_CASE("adamw and sum_of_squares: the same bits for any number of threads") {
  const auto result = [](int threads) {
    set_num_threads(threads);
    const Buffers b = buffers(200003, Dtype::f32);
    for (int t = 1; t <= 3; ++t)
      step(b, {{5, 70001}, {70001, 199999, 1, 0}}, {.ema_decay = 0.9, .step = t});
    auto all = to_vector<float>(b.p);
    for (const Tensor& t : {b.m, b.v, b.ema})
      for (float v : to_vector<float>(t)) all.push_back(v);
    return std::pair{all, sum_of_squares(b.g)};
  };
  const int before = num_threads();
  const auto one = result(1);
  CHECK(result(2) == one);
  CHECK(result(3) == one);
  set_num_threads(before);
}

TEST_CASE("sum_of_squares: value, and not finite when an element is not") {
  for (const int64_t n : {0, 1, 7, 1000, 100001})
    for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
      const Tensor g = test::random({n}, 1).to(dtype);
      double expected = 0;
      for (double v : to_vector<double>(g)) expected += v * v;
      CHECK(sum_of_squares(g) == doctest::Approx(expected).epsilon(1e-13));
    }
  // Squares of float32 neither overflow nor vanish in float64.
  CHECK(sum_of_squares(full({2}, 1e30)) == doctest::Approx(2e60).epsilon(1e-6));
  CHECK(sum_of_squares(full({2}, 1e-30)) == doctest::Approx(2e-60).epsilon(1e-6));
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    Tensor g = zeros({50000});
    g.data<float>()[49999] = float(bad);
    CHECK_FALSE(std::isfinite(sum_of_squares(g)));
  }
}

TEST_CASE("adamw: clips by the norm; a gradient or loss that is not finite moves the EMA alone") {
  for (const Device device : test::devices()) {
    CAPTURE(str(device));
    const auto make = [&](double gradient) {
      return Buffers{full({2}, 1, Dtype::f32, device), full({2}, gradient, Dtype::f32, device),
                     zeros({2}, Dtype::f32, device),   zeros({2}, Dtype::f32, device),
                     zeros({2}, Dtype::f32, device),   {}};
    };
    const Buffers clipped = make(3);
    const Tensor good_loss = full({1}, 0.625, Dtype::f32, device);
    const auto outcome = step(clipped, {{0, 2}}, {.ema_decay = 0.9, .clip_grad = 0.5}, good_loss);
    CHECK(outcome[0] == doctest::Approx(3 * std::sqrt(2)));
    CHECK(outcome[1] == 1);
    CHECK(outcome[2] == 0.625);
    CHECK(step(make(3), {{0, 2}}, {.ema_decay = 0.9})[2] == 0);
    CHECK(to_vector<double>(clipped.m)[0] ==
          doctest::Approx(0.1 * 0.5 / std::sqrt(2)).epsilon(1e-5));
    for (const bool by_loss : {false, true}) {
      const Buffers bad = make(by_loss ? 1 : NAN);
      const Tensor loss = full({1}, by_loss ? NAN : 1, Dtype::f32, device);
      CHECK(step(bad, {{0, 2}}, {.ema_decay = 0.9}, loss)[1] == 0);
      CHECK(to_vector<double>(bad.p) == std::vector<double>{1, 1});
      CHECK(to_vector<double>(bad.m) == std::vector<double>{0, 0});
      CHECK(to_vector<double>(bad.ema)[1] == doctest::Approx(0.1));
    }
  }
}

TEST_CASE("adamw: other betas and eps, on every device") {
  for (const Device device : test::devices()) {
    CAPTURE(str(device));
    const std::vector<AdamWSegment> segments{{0, 33}};
    Buffers b = buffers(33, Dtype::f32), expected = buffers(33);
    for (auto member : {&Buffers::p, &Buffers::m, &Buffers::v, &Buffers::ema})
      b.*member = (b.*member).to(device);
    for (int t = 1; t <= 5; ++t) {
      const Settings s{
          .lr = 1e-2, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3, .ema_decay = 0.9, .step = t};
      b.g = test::random({33}, uint64_t(t)).to(Dtype::f32).to(device);
      expected.g = b.g.to(Device{}).to(Dtype::f64);
      step(b, segments, s);
      literal(expected, segments, s);
    }
    for (auto member : {&Buffers::p, &Buffers::m, &Buffers::v, &Buffers::ema})
      CHECK(test::relative_error(b.*member, expected.*member) < 50 * 0x1p-24);
  }
}

TEST_CASE("adamw: clips elements by their value; the EMA's decay may be that of the step") {
  for (const Device device : test::devices()) {
    CAPTURE(str(device));
    Buffers b{full({5}, 1, Dtype::f32, device),
              from_vector<float>({-3, -0.5, 0, 0.25, 7}, {5}).to(device),
              zeros({5}, Dtype::f32, device),
              zeros({5}, Dtype::f32, device),
              zeros({5}, Dtype::f32, device),
              {}};
    const auto outcome = step(b, {{0, 5}},
                              {.beta1 = 0.5,
                               .ema_decay = 0.9,
                               .grad_scale = 2,
                               .clip_grad = 1,
                               .clip_mode = ClipMode::value,
                               .ema_decay_of_step = 0});
    CHECK(outcome[0] == doctest::Approx(2 * std::sqrt(9 + 0.25 + 0.0625 + 49)));  // before it
    CHECK(to_vector<double>(b.m) == std::vector<double>{-0.5, -0.5, 0, 0.25, 0.5});
    CHECK(to_vector<double>(b.ema) == to_vector<double>(b.p));
  }
  CHECK(parse_clip_mode("value") == ClipMode::value);
  CHECK_THROWS_WITH_AS(parse_clip_mode("agc"), doctest::Contains("expected norm or value"), Error);
}

TEST_CASE("adamw on cuda: against the CPU, with the copy in bf16") {
  for (const Device device : test::devices()) {
    if (device.type == DeviceType::cpu) continue;
    // Long segments of whole vectors, short ones and odd ones.
    const int64_t n = 2 * AdamWPlan::kPiece + 77;
    const std::vector<AdamWSegment> segments{
        {0, AdamWPlan::kPiece + 100}, {AdamWPlan::kPiece + 100, n - 50, 0.5, 0}, {n - 37, n - 3}};
    const Buffers host = buffers(n, Dtype::f32);
    Buffers gpu;
    for (auto member : {&Buffers::p, &Buffers::g, &Buffers::m, &Buffers::v, &Buffers::ema})
      gpu.*member = (host.*member).to(device);
    gpu.bf16_values = zeros({n}, Dtype::bf16, device);
    for (int t = 1; t <= 3; ++t) {
      const Settings s{.lr = 1e-2, .ema_decay = 0.9, .step = t, .grad_scale = 0.5};
      CHECK(step(gpu, segments, s)[0] ==
            doctest::Approx(step(host, segments, s)[0]).epsilon(1e-12));
    }
    // Three steps with about ten roundings each.
    for (auto member : {&Buffers::p, &Buffers::m, &Buffers::v, &Buffers::ema})
      CHECK(test::relative_error(gpu.*member, host.*member) < 30 * 0x1p-24);
    const std::vector<float> half = to_vector<float>(gpu.bf16_values),
                             expected = to_vector<float>(gpu.p.to(Dtype::bf16));
    CHECK(std::equal(half.begin(), half.begin() + (n - 50), expected.begin()));
    CHECK(half[size_t(n) - 40] == 0);  // outside of the segments
  }
}

TEST_CASE("adamw on the CPU: the copy in bf16 follows the weights that are updated") {
  for (const double ema_decay : {0.0, 0.9}) {
    const int64_t n = 1000;
    Buffers b = buffers(n, Dtype::f32);
    b.bf16_values = full({n}, 7, Dtype::bf16);
    const Buffers plain = buffers(n, Dtype::f32);
    const std::vector<AdamWSegment> segments{{0, 500}, {503, n, 0.5, 0}};
    step(b, segments, {.lr = 1e-2, .ema_decay = ema_decay});
    step(plain, segments, {.lr = 1e-2, .ema_decay = ema_decay});
    CHECK(to_vector<float>(b.p) == to_vector<float>(plain.p));
    std::vector<float> expected = to_vector<float>(b.p.to(Dtype::bf16));
    std::fill(expected.begin() + 500, expected.begin() + 503, 7.0f);  // between the segments
    CHECK(to_vector<float>(b.bf16_values) == expected);
  }
}

TEST_CASE("adamw: wrong arguments are named") {
  const Buffers b = buffers(10);
  CHECK_THROWS_WITH_AS(step({b.p, b.g, b.m, b.v, {}, zeros({10}, Dtype::bf16)}, {{0, 10}}, {}),
                       "adamw: p, which bf16_values follows: expected f32 on cpu, found f64 on cpu",
                       Error);
  CHECK_THROWS_WITH_AS(step({b.p, zeros({9}, Dtype::f64), b.m, b.v, {}, {}}, {{0, 10}}, {}),
                       "adamw: g: expected shape (10), found (9)", Error);
  CHECK_THROWS_WITH_AS(step({b.p, b.g, zeros({10}), b.v, {}, {}}, {{0, 10}}, {}),
                       "adamw: m: expected f64 on cpu, found f32 on cpu", Error);
  CHECK_THROWS_WITH_AS(step({b.p, b.g, b.m, b.v, {}, {}}, {{0, 10}}, {.ema_decay = 0.9}),
                       "adamw: ema: missing", Error);
  CHECK_THROWS_WITH_AS(
      step(b, {{0, 6}, {5, 10}}, {}),
      "adamw: segment [5, 10) does not lie in [6, 10), after the one before it and "
      "inside the buffers",
      Error);
  CHECK_THROWS_AS(step(b, {{0, 11}}, {}), Error);
  CHECK_THROWS_AS(step(b, {{4, 3}}, {}), Error);
  CHECK_THROWS_WITH_AS(step(b, {}, {.step = 0}), "adamw: t: expected at least 1, found 0", Error);
  CHECK_THROWS_WITH_AS(step(b, {}, {.beta2 = 1}), "adamw: beta2: expected [0, 1), found 1", Error);
  CHECK_THROWS_WITH_AS(step(b, {}, {.lr = std::nan("")}),
                       "adamw: lr: expected at least 0, found nan", Error);
}
