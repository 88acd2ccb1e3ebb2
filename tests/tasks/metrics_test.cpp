#include "tasks/metrics.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/files.h"

using namespace sg;

TEST_CASE("metrics: how many logits come before the label's, the first of equal ones first") {
  const Tensor logits = from_vector<float>({3, 2, 1, 0,  //
                                            1, 1, 1, 1,  //
                                            0, 5, 4, 9},
                                           {3, 4});
  using Ranks = std::vector<int64_t>;
  const auto ranks = [&](std::vector<int32_t> labels) {
    return tasks::label_ranks(logits, from_vector(labels, {3}));
  };
  CHECK(ranks({0, 0, 3}) == Ranks{0, 0, 0});
  CHECK(ranks({0, 1, 3}) == Ranks{0, 1, 0});
  CHECK(ranks({1, 1, 1}) == Ranks{1, 1, 1});
  CHECK(ranks({3, 3, 0}) == Ranks{3, 3, 3});
}

TEST_CASE("metrics: what is not a number is behind all, a wrong label is an error") {
  const Tensor logits = from_vector<float>({NAN, NAN, NAN, NAN}, {2, 2});
  CHECK(tasks::label_ranks(logits, from_vector<int32_t>({0, 1}, {2})) ==
        std::vector<int64_t>{2, 2});
  test::error_of(ExitCode::data, [&] {
    tasks::label_ranks(logits, from_vector<int32_t>({0, 2}, {2}));
  });
}

TEST_CASE("metrics: a mean weighs what it is given") {
  tasks::Mean m;
  CHECK(std::isnan(m.value()));  // there is nothing yet
  m.add(1, 3), m.add(5, 1);
  CHECK(m.value() == 2);
}

TEST_CASE("metrics: scores with a number that is none are not finite, and have no sign then") {
  const ScoreSchema schema{{.name = "loss", .label = "loss", .title = "loss"}};
  CHECK(tasks::Scores{{{"loss", 1.5}}}.finite());
  const tasks::Scores none{{{"top1", 50.0}, {"loss", -NAN}}};
  CHECK_FALSE(none.finite());
  CHECK(tasks::describe(schema, none) == "loss nan");
}
