#include "sgformer/backbone.h"

#include <doctest/doctest.h>

#include "core/allocator.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "sgformer/classifier.h"
#include "sgformer/parameter_groups.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::sgformer;

namespace {

Tensor images() { return test::random({2, 28, 28, 3}, 1).to(Dtype::f32); }

}  // namespace

TEST_CASE("a backbone stands in any store, under any prefix, beside any head") {
  Classifier whole(find_config("sgformer_nano"));
  whole.parameters().allocate();
  whole.parameters().initialize(3);

  nn::ParameterStore store;
  const nn::ParameterScope root(store);
  const Backbone backbone(root / "backbone", find_config("sgformer_nano"));
  const nn::Linear head(root, "decode", 192, 5);
  store.allocate();

  std::vector<std::string> names{"decode.weight", "decode.bias"};
  for (const std::string& name : whole.parameters().names()) {
    if (name.starts_with("head.")) continue;
    names.insert(names.end() - 2, "backbone." + name);
    store.set(store.values(), "backbone." + name,
              whole.parameters().get(whole.parameters().values(), name));
  }
  CHECK(store.names() == names);

  const auto expected = whole.forward(images(), {.significance = true});
  const Features found = backbone.forward(images(), {.significance = true});
  REQUIRE(found.maps.size() == 4);
  for (size_t i = 0; i < 4; ++i)
    CHECK(to_vector<float>(found.maps[i]) == to_vector<float>(expected.maps[i]));
  REQUIRE(found.significance.size() == expected.significance.size());
  for (size_t i = 0; i < found.significance.size(); ++i)
    CHECK(to_vector<float>(found.significance[i].map) ==
          to_vector<float>(expected.significance[i].map));
  CHECK(backbone.forward(images()).significance.empty());
}

namespace {

struct Step {
  std::map<std::string, std::vector<float>> gradients;
  size_t bytes = 0;  // that the step took at most
};

// One step of sgformer_nano with so many frozen stages.
Step step(int frozen_stages, bool recompute) {
  Config config = find_config("sgformer_nano");
  config.recompute = recompute;
  Classifier model(config);
  nn::ParameterStore& parameters = model.parameters();
  parameters.set_groups(group_rule(config, {.frozen_stages = frozen_stages}));
  parameters.allocate();
  parameters.initialize(3);
  Allocator& memory = Allocator::of({});
  memory.reset_peak();
  const size_t before = memory.stats().in_use;
  {
    const auto out = model.forward(images());
    for (int i = 0; i < 4; ++i)
      CHECK(autograd::requires_grad(out.maps[size_t(i)]) == (i >= frozen_stages));
    const Tensor targets = smooth_one_hot(from_vector<int32_t>({1, 2}, {2}), 1000, 0.1);
    autograd::backward(soft_cross_entropy(out.logits, targets).loss);
  }
  Step s{{}, memory.stats().peak - before};
  parameters.zero_unreached_grads();
  for (const std::string& name : parameters.names())
    s.gradients[name] = to_vector<float>(parameters.get(parameters.grads(), name));
  return s;
}

int stage_of(const std::string& name) {
  if (name.starts_with("head.")) return 5;
  if (name == "pos_embed") return 1;
  return name[name.find_first_of("1234")] - '0';
}

}  // namespace

TEST_CASE("of frozen stages nothing is recorded; above them gradients keep their bits") {
  for (const bool recompute : {false, true}) {
    const Step whole = step(0, recompute);
    size_t bytes = whole.bytes;
    for (int stages = 1; stages <= 4; ++stages) {
      CAPTURE(stages);
      const Step s = step(stages, recompute);
      for (const auto& [name, gradient] : s.gradients) {
        CAPTURE(name);
        const bool frozen = stage_of(name) <= stages;
        CHECK(gradient ==
              (frozen ? std::vector<float>(gradient.size()) : whole.gradients.at(name)));
      }
      CHECK(s.bytes <= bytes);
      bytes = s.bytes;
    }
    CHECK(bytes < whole.bytes / 2);
  }
}

TEST_CASE("a frozen block has no stochastic depth") {
  Config config = find_config("sgformer_nano");
  config.drop_path = 0.9;
  Classifier model(config);
  model.parameters().set_groups(group_rule(config, {.frozen_stages = 3}));
  model.parameters().allocate();
  model.parameters().initialize(3);
  const Tensor factors = draw_drop_paths(config, 2, 1, 1, 0);
  const Features with = model.backbone().forward(images(), {.drop_paths = factors}),
                 without = model.backbone().forward(images());
  for (size_t i = 0; i < 3; ++i)
    CHECK(to_vector<float>(with.maps[i]) == to_vector<float>(without.maps[i]));
  CHECK(to_vector<float>(with.maps[3]) != to_vector<float>(without.maps[3]));
}
