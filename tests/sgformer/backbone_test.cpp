#include "sgformer/backbone.h"

#include <doctest/doctest.h>

#include "sgformer/classifier.h"
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
  const nn::Scope root(store);
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
