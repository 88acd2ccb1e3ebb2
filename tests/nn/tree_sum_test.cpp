#include "nn/tree_sum.h"

#include <doctest/doctest.h>

#include "core/rng.h"

using namespace sg;

namespace {

// Terms whose sums depend on their order in the last bits.
Tensor term(int64_t i) {
  Tensor t = empty({1000});
  Random random(5, Purpose::test, uint64_t(i));
  for (float& v : t.span<float>()) v = float(random.normal());
  return t;
}

std::vector<float> sum(const std::vector<Tensor>& terms) {
  nn::TreeSum tree(terms[0], int64_t(terms.size()));
  Tensor last;
  for (size_t i = 0; i < terms.size(); ++i) {
    last = terms[i].clone();
    tree.add(int64_t(i), last);
  }
  return to_vector<float>(last);
}

Tensor plus(const Tensor& a, const Tensor& b) {
  Tensor c = empty_like(a);
  for (int64_t i = 0; i < a.numel(); ++i)
    c.data<float>()[i] = a.data<float>()[i] + b.data<float>()[i];
  return c;
}

}  // namespace

TEST_CASE("tree sum: pairs, pairs of pairs, and what is left over") {
  std::vector<Tensor> t;
  for (int64_t i = 0; i < 7; ++i) t.push_back(term(i));
  const auto first = [&](size_t n) {
    return std::vector(t.begin(), t.begin() + std::ptrdiff_t(n));
  };
  CHECK(sum(first(1)) == to_vector<float>(t[0]));
  CHECK(sum(first(2)) == to_vector<float>(plus(t[0], t[1])));
  CHECK(sum(first(3)) == to_vector<float>(plus(plus(t[0], t[1]), t[2])));
  CHECK(sum(first(7)) == to_vector<float>(plus(plus(plus(t[0], t[1]), plus(t[2], t[3])),
                                               plus(plus(t[4], t[5]), t[6]))));
  CHECK_FALSE(sum(first(7)) ==
              to_vector<float>(
                  plus(plus(plus(plus(plus(plus(t[0], t[1]), t[2]), t[3]), t[4]), t[5]), t[6])));
}

TEST_CASE("tree sum: the same bits, however many processes each sum a power of two of the terms") {
  for (const int64_t ranks : {1, 2, 3, 5, 8})
    for (const int64_t own : {1, 2, 4}) {
      std::vector<Tensor> all, of_ranks;
      for (int64_t r = 0; r < ranks; ++r) {
        std::vector<Tensor> mine;
        for (int64_t i = 0; i < own; ++i) mine.push_back(term(r * own + i));
        all.insert(all.end(), mine.begin(), mine.end());
        of_ranks.push_back(from_vector(sum(mine), {1000}));
      }
      CHECK(sum(of_ranks) == sum(all));
    }
}
