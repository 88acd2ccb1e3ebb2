#include "nn/gradient_slices.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/recompute.h"
#include "nn/layers.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "tests/support/reducer.h"

using namespace sg;
using namespace sg::test;

namespace {

// A layer that is used three times, twice of them within a recomputed segment, one that is used in
// one branch alone, and one that nothing reaches.
struct Net {
  nn::ParameterStore store;
  nn::Linear shared{nn::ParameterScope(store), "shared", 6, 6},
      branch{nn::ParameterScope(store), "branch", 6, 6},
      idle{nn::ParameterScope(store), "idle", 6, 6}, head{nn::ParameterScope(store), "head", 6, 3};
  Net() { store.allocate(), store.initialize(3); }

  Tensor loss(bool with_branch, int uses = 3) const {
    Tensor x = full({4, 6}, 0.5), targets = full({4, 3}, 0.2);
    for (float& v : x.span<float>()) v = float(&v - x.data<float>()) * 0.1f;
    Tensor y = shared(x);
    if (uses == 3)
      y = autograd::recompute(
          [&](const std::vector<Tensor>& in) { return std::vector<Tensor>{shared(shared(in[0]))}; },
          {y})[0];
    if (with_branch) y = branch(y);
    return soft_cross_entropy(head(y), targets).loss;
  }
};

}  // namespace

TEST_CASE("gradient slices: each leaves complete, once, in the order of the table") {
  for (const int64_t elements : {1, 60, 1000000}) {
    CAPTURE(elements);
    Net net, plain;
    Recorder recorder(net.store);
    nn::GradientSlices slices(net.store, recorder, nn::slice_table(net.store, elements));
    for (const bool with_branch : {true, true, false, false, true}) {
      plain.store.clear_grads(), autograd::backward(plain.loss(with_branch));
      plain.store.zero_unreached_grads();
      net.store.grads().fill_(NAN);  // what nothing writes is seen
      net.store.clear_grads();
      slices.backward({with_branch}, net.loss(with_branch));
      recorder.check_step(slices.table().size());
      for (const std::string& name : net.store.names())
        CHECK(to_vector<float>(net.store.get(net.store.grads(), name)) ==
              to_vector<float>(plain.store.get(plain.store.grads(), name)));
      net.store.zero_unreached_grads();  // changes nothing more
      CHECK(net.store.contains("idle.weight"));
    }
    // The head's gradients left before backward went on to the layers below.
    if (elements == 1) CHECK(recorder.most_unfinished > 0);
  }
}

TEST_CASE("gradient slices: as large as asked for, but the last, which nothing hides, is small") {
  using Sizes = std::vector<int64_t>;
  const auto sizes = [](const nn::ParameterStore& store, int64_t elements) {
    Sizes result;
    for (const nn::GradientRange& r : nn::slice_table(store, elements))
      result.push_back(r.end - r.begin);
    return result;
  };
  nn::ParameterStore store;  // laid out last first: 1600, 800, 64, 64, 16
  const nn::ParameterScope scope(store);
  for (const int64_t n : {16, 64, 64, 800, 1600})
    scope.add({{.name = std::to_string(store.count()), .official = {n}}}, {n});
  store.allocate();
  CHECK(sizes(store, 1) == Sizes{1600, 800, 64, 64, 16});
  CHECK(sizes(store, 128) == Sizes{1600, 800, 128, 16});
  CHECK(sizes(store, 640) == Sizes{1600, 800, 64, 80});
  CHECK(sizes(store, 8 * 79) == Sizes{1600, 800, 128, 16});
  CHECK(sizes(store, 1200) == Sizes{1600, 800, 144});
  CHECK(sizes(store, 100000) == Sizes{2544});
  nn::ParameterStore large;  // a last parameter that is larger than all that is asked for
  nn::ParameterScope(large).add({{.name = "last", .official = {1600}}}, {1600});
  nn::ParameterScope(large).add({{.name = "first", .official = {16}}}, {16});
  large.allocate();
  CHECK(sizes(large, 100) == Sizes{16, 1600});
}

TEST_CASE("gradient slices: what is frozen is not sent, but between others") {
  nn::ParameterStore store;  // laid out last first: e d c b a
  const nn::ParameterScope scope(store);
  const std::pair<const char*, int64_t> declared[] = {
      {"a", 16}, {"b", 64}, {"c", 64}, {"d", 800}, {"e", 1600}};
  for (const auto& [name, n] : declared) scope.add({{.name = name, .official = {n}}}, {n});
  store.allocate();
  const auto ranges = [&](const std::string& frozen, const auto& how) {
    store.set_groups([&](const nn::NamedSlice& part) {
      return nn::ParameterGroup{.frozen = frozen.find(part.name) != std::string::npos};
    });
    std::vector<std::pair<int64_t, int64_t>> all;
    for (const nn::GradientRange& r : nn::slice_table(store, how)) all.emplace_back(r.begin, r.end);
    return all;
  };
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;
  CHECK(ranges("ab", 2000) == Ranges{{0, 2400}, {2400, 2464}});
  CHECK(ranges("abcd", 100000) == Ranges{{0, 1600}});
  CHECK(ranges("e", 1) == Ranges{{1600, 2400}, {2400, 2464}, {2464, 2528}, {2528, 2544}});
  CHECK(ranges("c", 100000) == Ranges{{0, 2544}});
  const std::vector<int64_t> ends{1600, 2464, 2544};  // of a checkpoint
  CHECK(ranges("", ends) == Ranges{{0, 1600}, {1600, 2464}, {2464, 2544}});
  CHECK(ranges("ab", ends) == Ranges{{0, 1600}, {1600, 2464}});
  CHECK(ranges("dc", ends) == Ranges{{0, 1600}, {2464, 2544}});
}

TEST_CASE("gradient slices: what an earlier pass has collected is sent, not cleared") {
  Net net, plain;
  for (const Net* n : {&net, &plain}) autograd::backward(n->loss(true));
  autograd::backward(plain.loss(false));
  plain.store.zero_unreached_grads();
  Recorder recorder(net.store);
  nn::GradientSlices slices(net.store, recorder, nn::slice_table(net.store, 1));
  slices.backward({}, net.loss(false));
  recorder.check_step(slices.table().size());
  CHECK(to_vector<float>(net.store.get(net.store.grads(), "branch.weight")) ==
        to_vector<float>(plain.store.get(plain.store.grads(), "branch.weight")));
}

TEST_CASE("gradient slices: by their ends, as a checkpoint has them, and sent as they are") {
  Net net;
  Recorder recorder(net.store);
  const int64_t all = net.store.grads().numel(), first = net.store.in_order()[1]->offset;
  nn::GradientSlices slices(net.store, recorder,
                            nn::slice_table(net.store, std::vector<int64_t>{first, all}));
  REQUIRE(slices.table().size() == 2);
  CHECK(slices.table()[0].end <= first);
  CHECK(slices.table()[1].begin == first);
  slices.backward({}, net.loss(true));
  recorder.check_step(2);
  slices.send();
  recorder.check_step(2);
  for (const std::vector<int64_t>& wrong :
       {std::vector<int64_t>{first}, {1, all}, {first, first, all}, {all, all + 1}, {}})
    CHECK_THROWS_AS(nn::slice_table(net.store, wrong), Error);
}

TEST_CASE("gradient slices: a step that writes a gradient more or less often is refused by name") {
  for (const int uses : {3, 1}) {
    Net net;
    Recorder recorder(net.store);
    nn::GradientSlices slices(net.store, recorder, nn::slice_table(net.store, 1));
    slices.backward({}, net.loss(true, uses));
    recorder.check_step(slices.table().size());
    net.store.clear_grads();
    CHECK_THROWS_WITH_AS(slices.backward({}, net.loss(true, 4 - uses)),
                         doctest::Contains("gradient of shared."), Error);
  }
}
