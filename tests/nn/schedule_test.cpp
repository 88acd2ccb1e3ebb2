#include "nn/optim/schedule.h"

#include <doctest/doctest.h>

#include <cmath>
#include <utility>

#include "core/error.h"
#include "tests/support/published_rates.h"

using namespace sg;

TEST_CASE("schedule: the recipe's learning rates") {
  const CosineSchedule s;
  s.validate();
  for (const auto& [epoch, lr] : test::kPublishedRates) {
    CAPTURE(epoch);
    CHECK(std::abs(s.at(epoch) - lr) < 1e-9);
  }
  CHECK(s.total_epochs() == 310);
  for (int epoch = 300; epoch < 320; ++epoch) CHECK(s.at(epoch) == 1e-5);
}

TEST_CASE("schedule: it rises through the warm-up, falls after it, and peaks below lr") {
  const CosineSchedule s;
  for (int epoch = 1; epoch < 310; ++epoch) {
    CHECK(s.at(epoch) < s.lr);
    if (epoch <= 20)
      CHECK(s.at(epoch) > s.at(epoch - 1));
    else
      CHECK(s.at(epoch) <= s.at(epoch - 1));
  }
}

TEST_CASE("schedule: other settings, e.g. fine-tuning without warm-up") {
  const CosineSchedule s{.epochs = 30,
                         .warmup_epochs = 0,
                         .cooldown_epochs = 0,
                         .lr = 5e-6,
                         .min_lr = 0,
                         .warmup_lr = 0};
  s.validate();
  CHECK(s.total_epochs() == 30);
  CHECK(s.at(0) == 5e-6);
  CHECK(std::abs(s.at(15) - 2.5e-6) < 1e-20);
  CHECK(s.at(30) == 0);
  const CosineSchedule all_warmup{
      .epochs = 4, .warmup_epochs = 4, .cooldown_epochs = 1, .warmup_lr = 0};
  all_warmup.validate();
  CHECK(all_warmup.at(2) == 5e-4);
  CHECK(all_warmup.at(4) == 1e-5);
}

TEST_CASE("schedule: settings that cannot work are named") {
  const auto message = [](const CosineSchedule& s) -> std::string {
    try {
      s.validate();
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::usage);
      return e.what();
    }
    return "accepted";
  };
  CHECK(message({.epochs = 0}) == "epochs: expected at least 1, found 0");
  CHECK(message({.epochs = 5}) ==
        "warmup epochs: 20 do not fit into 5 epochs; lower them, or the learning rate is never "
        "reached");
  CHECK(message({.cooldown_epochs = -1}) == "cooldown epochs: expected at least 0, found -1");
  CHECK(message({.lr = 0}) == "lr: expected above 0, found 0");
  CHECK(message({.lr = NAN}) == "lr: expected above 0, found nan");
  CHECK(message({.min_lr = 1}) == "minimum lr: expected 0 to lr, found 1");
  CHECK(message({.warmup_lr = -1e-6}) == "warmup lr: expected 0 to lr, found -1e-06");
  CHECK_THROWS_AS(CosineSchedule{}.at(-1), Error);
}

TEST_CASE("schedule: polynomial, by step, after a warm-up that multiplies it") {
  const PolynomialSchedule s{
      .steps = 1000, .lr = 6e-5, .min_lr = 1e-6, .power = 0.9, .warmup = {100, 1e-3}};
  s.validate();
  const auto plain = [](double step) { return 1e-6 + 5.9e-5 * std::pow(1 - step / 1000, 0.9); };
  CHECK(s.at(0) == doctest::Approx(1e-3 * 6e-5));
  CHECK(s.at(50) == doctest::Approx((1 - 0.5 * 0.999) * plain(50)));
  for (const int step : {100, 101, 500, 999}) CHECK(s.at(step) == doctest::Approx(plain(step)));
  for (const int step : {1000, 5000}) CHECK(s.at(step) == 1e-6);
  CHECK_THROWS_AS(s.at(-1), Error);
}

TEST_CASE("schedule: milestones") {
  const MilestoneSchedule s{.milestones = {80, 110}, .lr = 2e-4, .gamma = 0.1, .warmup = {10, 0.5}};
  s.validate();
  for (const auto& [step, lr] : {std::pair{0, 1e-4},
                                 {5, 1.5e-4},
                                 {10, 2e-4},
                                 {79, 2e-4},
                                 {80, 2e-5},
                                 {109, 2e-5},
                                 {110, 2e-6},
                                 {9999, 2e-6}})
    CHECK(s.at(step) == doctest::Approx(lr));
}

TEST_CASE("schedule: by steps the cosine is that of epochs as real numbers, as timm 1") {
  // CosineLRScheduler(t_initial=300 U, warmup_t=20 U, t_in_epochs=False), U = 1251 updates an
  // epoch.
  CosineSchedule s;
  s.epoch_steps = 1251;
  for (const int64_t t : {0, 1, 1250, 1251, 25019, 25020, 200000, 375299, 375300, 387809}) {
    CAPTURE(t);
    const double warm = 1e-6 + double(t) * (1e-3 - 1e-6) / (20 * 1251);
    const double cosine =
        1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + std::cos(M_PI * double(t) / (300 * 1251)));
    const double expected = t < 20 * 1251 ? warm : t < 300 * 1251 ? cosine : 1e-5;
    CHECK(std::abs(learning_rate(s, t / 1251, t) - expected) < 1e-15);
  }
}

TEST_CASE("schedule: a warm-up before the epochs of the cosine shifts it and lengthens the run") {
  CosineSchedule s{.epochs = 10, .warmup_epochs = 15, .cooldown_epochs = 2};
  s.warmup_prefix = true;
  s.validate();
  CHECK(s.total_epochs() == 27);
  CHECK(s.at(15) == s.lr);
  CHECK(s.at(20) == doctest::Approx((s.lr + s.min_lr) / 2));
  CHECK(s.at(24) > s.min_lr);
  CHECK(s.at(25) == s.min_lr);
}

TEST_CASE("schedule: the cosine goes by epochs, the others by steps") {
  CHECK(learning_rate(CosineSchedule{}, 100, 7) == CosineSchedule{}.at(100));
  CHECK(learning_rate(PolynomialSchedule{}, 100, 7) == PolynomialSchedule{}.at(7));
  CHECK(learning_rate(MilestoneSchedule{.milestones = {7}}, 0, 7) == doctest::Approx(1e-5));
}

TEST_CASE("schedule: what makes no sense is named") {
  const auto refused = [](const auto& s, const char* what) {
    CHECK_THROWS_WITH_AS(s.validate(), doctest::Contains(what), Error);
  };
  refused(PolynomialSchedule{.steps = 0}, "steps");
  refused(PolynomialSchedule{.lr = 1e-4, .min_lr = 1}, "minimum lr");
  refused(PolynomialSchedule{.power = 0}, "power");
  refused(PolynomialSchedule{.warmup = {-1, 0}}, "warmup steps");
  refused(PolynomialSchedule{.warmup = {1, 2}}, "warmup ratio");
  refused(MilestoneSchedule{.milestones = {5, 5}}, "milestones");
  refused(MilestoneSchedule{.milestones = {}, .gamma = 0}, "gamma");
}
