// Initial values against recipe section 8.
#include <doctest/doctest.h>

#include <cmath>

#include "sgformer/classifier.h"

using namespace sg;
using namespace sg::sgformer;

namespace {

struct Moments {
  double mean = 0, std = 0;
  int64_t n = 0;
};

Moments moments(const nn::ParameterStore& p, const std::string& name) {
  const auto v = to_vector<double>(p.get(p.values(), name));
  Moments m;
  m.n = int64_t(v.size());
  for (const double x : v) m.mean += x / double(m.n);
  for (const double x : v) m.std += (x - m.mean) * (x - m.mean) / double(m.n);
  m.std = std::sqrt(m.std);
  return m;
}

// Mean 0 and the given std, each within five standard errors of a normal sample.
void check_normal(const nn::ParameterStore& p, const std::string& name, double std) {
  CAPTURE(name);
  const Moments m = moments(p, name);
  CHECK(std::abs(m.mean) < 5 * std / std::sqrt(double(m.n)));
  CHECK(std::abs(m.std / std - 1) < 5 / std::sqrt(2.0 * double(m.n)));
}

}  // namespace

TEST_CASE("initial values of SG-Former-S") {
  Classifier model(find_config("sgformer_s"));
  nn::ParameterStore& p = model.parameters();
  p.allocate();
  p.initialize(7);
  for (const char* name : {"block1.0.attn.q1.weight", "block2.1.attn.kv2.weight",
                           "block3.0.attn.lepe_linear.weight", "block4.0.attn.kv.weight",
                           "block1.1.attn.f1.weight", "block3.5.mlp.fc2.weight", "head.weight"})
    check_normal(p, name, 0.02);
  check_normal(p, "block1.0.mlp.dwconv.dwconv.weight", std::sqrt(2.0 / 9));
  check_normal(p, "patch_embed3.conv2.c.weight", std::sqrt(2.0 / 9));
  check_normal(p, "block1.0.attn.sr.weight", std::sqrt(2.0 / (64 * 64)));
  check_normal(p, "patch_embed1.conv.0.c.weight", std::sqrt(2.0 / (9 * 64)));
  check_normal(p, "patch_embed2.conv1.c.weight", std::sqrt(2.0 / 128));
  for (const std::string& name : p.names()) {
    CAPTURE(name);
    const nn::NamedSlice& part = p.part(name);
    if (part.official.size() > 1) continue;
    const bool norm_weight = name.ends_with("weight");
    const Moments m = moments(p, name);
    CHECK(m.mean == (norm_weight ? 1 : 0));
    CHECK(m.std == 0);
  }
}

TEST_CASE("the positional embedding: column first, then row; sines, then cosines") {
  Classifier model(find_config("sgformer_s"));
  model.parameters().allocate();
  model.parameters().initialize(0);
  const auto table =
      to_vector<double>(model.parameters().get(model.parameters().values(), "pos_embed"));
  const auto at = [&](int row, int column, int dim) {
    return table[size_t((row * 56 + column) * 64 + dim)];
  };
  CHECK(at(0, 1, 0) == doctest::Approx(0.8415).epsilon(1e-4));
  CHECK(at(0, 1, 16) == doctest::Approx(0.5403).epsilon(1e-4));
  CHECK(at(0, 1, 32) == 0);
  CHECK(at(0, 1, 48) == 1);
  CHECK(at(3, 0, 32) == doctest::Approx(std::sin(3.0)));
  CHECK(at(3, 5, 1) == doctest::Approx(std::sin(5 * std::pow(10000.0, -1.0 / 16))));
}

TEST_CASE("initial values are a function of the seed") {
  const auto values = [](uint64_t seed) {
    Classifier model(find_config("sgformer_nano"));
    model.parameters().allocate();
    model.parameters().initialize(seed);
    return to_vector<float>(model.parameters().values());
  };
  CHECK(values(1) == values(1));
  CHECK(values(1) != values(2));
}
