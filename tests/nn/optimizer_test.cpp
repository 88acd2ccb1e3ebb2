#include "nn/optim/optimizer.h"

#include <doctest/doctest.h>

#include <cmath>

#include "nn/layers.h"

using namespace sg;

namespace {

// One matrix (with decay) and one bias (without), all of one value and one gradient.
struct Model {
  nn::ParameterStore store;
  nn::Linear linear{nn::ParameterScope(store), "fc", 3, 2};
  Model(double value, double gradient) {
    store.allocate(Dtype::f64);
    store.values().fill_(value);
    set_gradient(gradient);
  }
  void set_gradient(double gradient) {
    store.clear_grads();
    const Tensor x = full({1, 3}, 1, Dtype::f64);
    const Tensor y = linear(x);
    autograd::backward({y}, {full(y.shape(), gradient, Dtype::f64)});
  }
  double weight() const { return store.get(store.values(), "fc.weight").data<double>()[0]; }
  double bias() const { return store.get(store.values(), "fc.bias").data<double>()[0]; }
  double ema(const nn::Optimizer& o) const {
    return store.get(o.ema(), "fc.weight").data<double>()[0];
  }
};

// `loss` is what the caller found.
nn::Optimizer::Outcome step(nn::Optimizer& o, double lr, int64_t passes = 1, double loss = 1) {
  o.prepare(lr, passes);
  o.update(full({1}, loss, Dtype::f64));
  return o.finish();
}

}  // namespace

TEST_CASE("optimizer: a step of the recipe; biases do not decay") {
  Model m(1, 0.1);
  nn::Optimizer o(m.store, {.weight_decay = 0.05});
  const auto outcome = step(o, 1e-3, 1, 2.5);
  CHECK(outcome.loss == 2.5);
  CHECK(m.weight() == doctest::Approx(0.99895).epsilon(1e-9));  // 1 - lr wd - lr, to eps
  CHECK(m.bias() == doctest::Approx(0.999).epsilon(1e-9));
  CHECK(outcome.grad_norm == doctest::Approx(0.1 * std::sqrt(8)));
  CHECK(o.updates == 1);
}

TEST_CASE("optimizer: eps is added after the bias correction") {
  Model m(1, 1e-9);
  nn::Optimizer o(m.store, {.weight_decay = 0});
  step(o, 1e-3);
  CHECK(1 - m.weight() == doctest::Approx(1e-3 / 11).epsilon(1e-6));
}

TEST_CASE("optimizer: the gradient is the mean of the passes, and is clipped by its norm") {
  Model m(1, 0.3);
  nn::Optimizer o(m.store, {.weight_decay = 0});
  CHECK(step(o, 1e-3, 3).grad_norm == doctest::Approx(0.1 * std::sqrt(8)));
  CHECK(m.store.get(o.moment1(), "fc.bias").data<double>()[0] == doctest::Approx(0.01));

  Model clipped(1, 3);
  nn::Optimizer c(clipped.store, {.clip_grad = 0.5});
  CHECK(step(c, 1e-3).grad_norm == doctest::Approx(3 * std::sqrt(8)));
  CHECK(clipped.store.get(c.moment1(), "fc.bias").data<double>()[0] ==
        doctest::Approx(0.1 * 0.5 / std::sqrt(8)).epsilon(1e-6));
}

TEST_CASE("optimizer: the EMA of a drift has its closed form, and ticks in skipped steps") {
  constexpr double kDecay = 0.9;
  Model m(1, 0.1);
  nn::Optimizer o(m.store, {.weight_decay = 0, .ema_decay = kDecay});
  CHECK(m.ema(o) == 1);
  double expected = 1;
  for (int t = 1; t <= 20; ++t) {
    const bool usable = t % 3 != 0;
    const double before = m.weight();
    m.set_gradient(usable ? 0.1 : NAN);
    const auto outcome = step(o, 1e-2, 1, t % 2 == 0 ? 1 : NAN);  // half of them by the loss
    CHECK(outcome.applied == (usable && t % 2 == 0));
    if (!outcome.applied) CHECK(m.weight() == before);
    expected = kDecay * expected + (1 - kDecay) * m.weight();
    CHECK(m.ema(o) == doctest::Approx(expected).epsilon(1e-12));
  }
  // Adam's t counts the applied steps alone; a constant gradient then moves by lr in each.
  CHECK(o.updates == 7);
  CHECK(m.weight() == doctest::Approx(1 - 7 * 1e-2).epsilon(1e-6));
}

TEST_CASE("optimizer: a warm-up of the EMA rises from none to the decay, as timm's ModelEmaV3") {
  // 1 - (1 + 7)^(-2/3) and so on: get_decay(step + 1) of ModelEmaV3(decay=0.999, use_warmup=True).
  CHECK(nn::warm_ema_decay(0.999, 0) == 0);
  CHECK(nn::warm_ema_decay(0.999, 1) == doctest::Approx(0.3700394750525634).epsilon(1e-14));
  CHECK(nn::warm_ema_decay(0.999, 7) == doctest::Approx(0.75).epsilon(1e-14));
  CHECK(nn::warm_ema_decay(0.999, 26) == doctest::Approx(8.0 / 9).epsilon(1e-14));
  CHECK(nn::warm_ema_decay(0.999, 1'000'000) == 0.999);

  Model m(1, 0.1);
  nn::Optimizer o(m.store, {.weight_decay = 0, .ema_decay = 0.999});
  double expected = 1;
  for (int64_t k = 0; k < 10; ++k) {
    m.set_gradient(0.1);
    const double decay = nn::warm_ema_decay(0.999, k);
    o.prepare(1e-2, 1, decay);
    o.update(full({1}, 1, Dtype::f64));
    o.finish();
    expected = decay * expected + (1 - decay) * m.weight();
    CHECK(m.ema(o) == doctest::Approx(expected).epsilon(1e-12));
  }
}

TEST_CASE("optimizer: what is frozen keeps its value, moments of zero, and its value as EMA") {
  Model m(1, 0.1);
  m.store.set_groups([](const nn::NamedSlice& part) {
    const bool bias = part.name == "fc.bias";
    return nn::ParameterGroup{.lr_scale = bias ? 0.5 : 1.0, .frozen = !bias};
  });
  m.set_gradient(0.1);
  nn::Optimizer o(m.store, {.weight_decay = 0.05, .ema_decay = 0.9});
  for (int i = 0; i < 3; ++i) {
    const auto outcome = step(o, 1e-3);
    CHECK(outcome.grad_norm == doctest::Approx(0.1 * std::sqrt(2)));  // of the bias alone
  }
  CHECK(m.weight() == 1);  // no decay either
  CHECK(m.ema(o) == 1);
  CHECK(m.store.get(o.moment1(), "fc.weight").data<double>()[0] == 0);
  CHECK(m.store.get(o.moment2(), "fc.weight").data<double>()[0] == 0);
  double expected = 1;  // half the rate, with decay
  for (int i = 0; i < 3; ++i) expected = expected * (1 - 0.5e-3 * 0.05) - 0.5e-3;
  CHECK(m.bias() == doctest::Approx(expected).epsilon(1e-9));

  m.store.set_groups([](const nn::NamedSlice&) { return nn::ParameterGroup{.frozen = true}; });
  CHECK_THROWS_WITH_AS(nn::Optimizer(m.store, {}), "optimizer: all parameters are frozen", Error);
}
