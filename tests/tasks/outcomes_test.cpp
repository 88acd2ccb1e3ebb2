#include "tasks/outcomes.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/bars_dataset.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

namespace {

// Of four classes: image, label, what is predicted.
std::vector<tasks::Outcome> some() {
  return {{.index = 0, .label = 0, .predicted = 0, .rank = 0, .probability = 0.9, .loss = 0.1},
          {.index = 1, .label = 0, .predicted = 2, .rank = 1, .probability = 0.5, .loss = 0.8},
          {.index = 2, .label = 0, .predicted = 2, .rank = 3, .probability = 0.6, .loss = 5.0},
          {.index = 3, .label = 3, .predicted = 0, .rank = 2, .probability = 0.99, .loss = 4.7}};
}

// A dataset of files whose names are not UTF-8.
struct Latin1 : Bars {
  using Bars::Bars;
  std::string name(int64_t i) const override { return fmt::format("caf\xe9/{}.png", i); }
};

}  // namespace

TEST_CASE("outcomes: class, probability, rank and loss of each row of logits") {
  const Tensor logits = from_vector<float>({1, 3, 3, 0,  //
                                            0, 0, 0, 2},
                                           {2, 4});
  const auto found = tasks::outcomes_of({7, 9}, logits, from_vector<int32_t>({2, -1}, {2}));
  CHECK(found[0].index == 7);
  CHECK(found[0].predicted == 1);  // of equal ones the first
  CHECK(found[0].rank == 1);
  const double sum = std::exp(1) + 2 * std::exp(3) + 1;
  CHECK(found[0].probability == doctest::Approx(std::exp(3) / sum));
  CHECK(found[0].loss == doctest::Approx(-std::log(std::exp(3) / sum)));
  CHECK(found[1].predicted == 3);
  CHECK(found[1].rank == -1);
  CHECK(std::isnan(found[1].loss));
  const auto broken = tasks::outcomes_of({0}, from_vector<float>({NAN, NAN, NAN, NAN}, {1, 4}),
                                         from_vector<int32_t>({0}, {1}));
  CHECK(broken[0].rank == 4);  // no hit, of any k
}

TEST_CASE("outcomes: hits, confusion, and the accuracy by class") {
  CHECK(tasks::top_k_hits(some(), 1) == 1);
  CHECK(tasks::top_k_hits(some(), 2) == 2);
  CHECK(tasks::top_k_hits(some(), 4) == 4);

  const Matrix m = tasks::confusion_matrix(some(), {"cat", "dog"}, 4);
  CHECK(m.counts == std::vector<int64_t>{1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0});
  CHECK(m.names == std::vector<std::string>{"cat", "dog", "class 2", "class 3"});
  error_of(ExitCode::usage, [] { tasks::confusion_matrix({}, {}, 100000); });

  using Row = std::vector<std::string>;
  const Table t = tasks::accuracy_by_class(some(), {"cat", "dog", "owl", "fox"});
  CHECK(t.rows ==
        std::vector<Row>{{"cat", "3", "33.3 %", "owl (2)"}, {"fox", "1", "0.0 %", "cat (1)"}});
}

TEST_CASE("outcomes: mistakes with their images, by loss and by confidence") {
  const Bars bars(8);
  data::TransformConfig transform;
  transform.img_size = 28;
  const auto galleries = tasks::mistakes(some(), bars, transform, 2);
  REQUIRE(galleries.size() == 2);
  REQUIRE(galleries[0].items.size() == 2);
  CHECK(galleries[0].items[0].description == bars.name(2));  // loss 5.0
  CHECK(galleries[0].items[1].description == bars.name(3));
  CHECK(galleries[1].items[0].description == bars.name(3));  // 99 %
  CHECK(galleries[1].items[1].description == bars.name(2));
  CHECK(galleries[1].items[0].png.starts_with("\x89PNG"));
  CHECK(tasks::mistakes({some()[0]}, bars, transform).empty());
  // A page is UTF-8, names of files are bytes.
  const auto item = tasks::mistakes(some(), Latin1(8), transform, 1)[0].items[0];
  CHECK(item.description == "caf\\xe9/2.png");
  CHECK(item.note.ends_with("\n2.png"));
}
