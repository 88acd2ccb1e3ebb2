#include "tasks/metrics.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/files.h"

using namespace sg;

TEST_CASE("metrics: the k largest, the first of equal ones before the others") {
  const Tensor logits = from_vector<float>({3, 2, 1, 0,  //
                                            1, 1, 1, 1,  //
                                            0, 5, 4, 9},
                                           {3, 4});
  const auto hits = [&](std::vector<int32_t> labels, int k) {
    return tasks::top_k_hits(logits, from_vector(labels, {3}), k);
  };
  CHECK(hits({0, 0, 3}, 1) == 3);
  CHECK(hits({0, 1, 3}, 1) == 2);
  CHECK(hits({1, 1, 1}, 2) == 3);
  CHECK(hits({3, 3, 0}, 3) == 0);
  CHECK(hits({3, 3, 0}, 4) == 3);
  CHECK(hits({3, 3, 0}, 5) == 3);
}

TEST_CASE("metrics: what is not a number is no hit, a wrong label is an error") {
  const Tensor logits = from_vector<float>({NAN, NAN, NAN, NAN}, {2, 2});
  CHECK(tasks::top_k_hits(logits, from_vector<int32_t>({0, 1}, {2}), 1) == 0);
  test::error_of(ExitCode::data, [&] {
    tasks::top_k_hits(logits, from_vector<int32_t>({0, 2}, {2}), 1);
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
