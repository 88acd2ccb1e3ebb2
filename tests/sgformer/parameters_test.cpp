// Names, shapes, counts and multiply-adds of the published models.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "core/box.h"
#include "core/profile.h"
#include "nn/trace.h"
#include "sgformer/classifier.h"
#include "tests/support/skip.h"

using namespace sg;
using namespace sg::sgformer;

namespace {

struct Published {
  const char* name;
  int64_t parameters, decayed, decayed_tensors, not_decayed, not_decayed_tensors;
  double gmac;
};
constexpr double kDigit = 0.0005;  // half of the last digit that the specification gives
constexpr Published kPublished[] = {
    {"sgformer_s", 22'545'981, 22'430'332, 267, 115'649, 402, 4.784},
    {"sgformer_m", 38'689'316, 38'495'700, 430, 193'616, 639, 7.427},
    {"sgformer_b", 77'950'293, 77'687'942, 409, 262'351, 608, 15.543},
};

void forward(Classifier& model, ImageSize size) {
  model.parameters().allocate();
  const autograd::NoGrad no_grad;
  model.forward(zeros({1, size.height, size.width, 3}));
}

std::vector<nn::LayerRow> trace_of(Classifier& model, ImageSize size = 224) {
  const nn::Trace trace;
  forward(model, size);
  return trace.rows();
}

}  // namespace

TEST_CASE("parameters: count, decay groups") {
  for (const Published& p : kPublished) {
    CAPTURE(p.name);
    Classifier model(find_config(p.name));
    CHECK(model.parameters().count() == p.parameters);
    int64_t decayed = 0, decayed_tensors = 0, others = 0, other_tensors = 0;
    for (const std::string& name : model.parameters().names()) {
      const nn::NamedSlice& part = model.parameters().part(name);
      (part.group.weight_decay_scale > 0 ? decayed : others) += part.official.numel();
      ++(part.group.weight_decay_scale > 0 ? decayed_tensors : other_tensors);
    }
    CHECK(decayed == p.decayed);
    CHECK(decayed_tensors == p.decayed_tensors);
    CHECK(others == p.not_decayed);
    CHECK(other_tensors == p.not_decayed_tensors);
    CHECK(model.parameters().part("pos_embed").group.weight_decay_scale == 1);

    // The optimiser's segments say the same.
    model.parameters().allocate();
    int64_t with_decay = 0, without = 0;
    for (const AdamWSegment& s : model.parameters().segments())
      (s.weight_decay_scale > 0 ? with_decay : without) += s.end - s.begin;
    CHECK(with_decay == p.decayed);
    CHECK(without == p.not_decayed);
  }
}

TEST_CASE("parameters: names and shapes of the published files") {
  for (const Published& p : kPublished) {
    const auto path = test::shared(fmt::format("golden/parameters/{}_parameters.json", p.name));
    if (path.empty()) return;
    std::ifstream in(path);
    const auto expected = nlohmann::json::parse(in);
    Classifier model(find_config(p.name));
    CHECK(model.parameters().names().size() == expected.size());
    for (const auto& [name, shape] : expected.items()) {
      CAPTURE(name);
      REQUIRE(model.parameters().contains(name));
      Shape s;
      for (const int64_t d : shape) s.push_back(d);
      CHECK(model.parameters().part(name).official == s);
    }
  }
}

TEST_CASE("multiply-adds at 224") {
  for (const Published& p : kPublished) {
    CAPTURE(p.name);
    Classifier model(find_config(p.name));
    double macs = 0;
    int64_t parameters = 0;
    for (const nn::LayerRow& r : trace_of(model)) macs += r.macs, parameters += r.parameters;
    CHECK(parameters == p.parameters);
    CHECK(std::abs(1e-9 * macs - p.gmac) <= kDigit);
  }
}

TEST_CASE("multiply-adds: those of the layers are those of the operations, at any size") {
  Classifier model(find_config("sgformer_nano"));
  for (const ImageSize size : {ImageSize(28), ImageSize(20, 44)}) {
    CAPTURE(size.width);
    profile::start();
    forward(model, size);
    double operations = 0, layers = 0;
    for (const auto& [op, row] : profile::stop())
      operations += row.macs * (op == "aggregate.fwd" ? 2 : 1);  // as published
    for (const nn::LayerRow& r : trace_of(model, size)) layers += r.macs;
    CHECK(operations > 0);
    CHECK(layers == operations);
  }
  // The rows would be lost to each other.
  const nn::Trace trace;
  CHECK_THROWS_AS(nn::Trace(), Error);
}

TEST_CASE("where the multiply-adds of S go") {
  Classifier model(find_config("sgformer_s"));
  std::map<std::string, double> sums;
  for (const nn::LayerRow& r : trace_of(model)) {
    const auto has = [&](const char* text) { return r.name.find(text) != std::string::npos; };
    std::string kind = "other";
    double depthwise = 0;
    if (has(".dwconv"))
      kind = "depthwise";
    else if (has("patch_embed1"))
      kind = "stem";
    else if (has("patch_embed") || r.name == "head")  // 0.1172 and 0.0005
      kind = "transitions";
    else if (has(".mlp.fc"))
      kind = "mlp";
    else if (has(".attn.sr"))
      kind = "merge";
    else if (r.kind == "aggregate")
      kind = "aggregate";
    else if (r.kind == "attention+lepe")
      kind = "products", depthwise = 9.0 * double(r.output.numel());
    else if (has(".attn."))
      kind = "projections";
    sums[kind] += r.macs - depthwise;
    sums["depthwise"] += depthwise;
  }
  const std::map<std::string, double> expected{
      {"mlp", 2.363},   {"projections", 1.239}, {"stem", 0.600},      {"products", 0.247},
      {"merge", 0.141}, {"transitions", 0.118}, {"depthwise", 0.073}, {"aggregate", 0.002}};
  for (const auto& [kind, gmac] : expected) {
    CAPTURE(kind);
    CHECK(std::abs(1e-9 * sums[kind] - gmac) <= kDigit);
  }
}
