#include "nn/optim/schedule.h"

#include <doctest/doctest.h>

#include <cmath>
#include <utility>

#include "core/error.h"

using namespace sg;

TEST_CASE("schedule: the recipe's learning rates") {
  const CosineSchedule s;
  s.validate();
  for (const auto& [epoch, lr] : {std::pair{0, 1e-6},
                                  {1, 5.095e-5},
                                  {10, 5.005e-4},
                                  {19, 9.5005e-4},
                                  {20, 9.8918306e-4},
                                  {21, 9.880788e-4},
                                  {100, 7.525e-4},
                                  {150, 5.05e-4},
                                  {250, 7.63174e-5},
                                  {299, 1.00271e-5}}) {
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
