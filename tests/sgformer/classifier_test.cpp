#include "sgformer/classifier.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ops/cross_entropy/cross_entropy.h"
#include "sgformer/config_json.h"
#include "tests/support/files.h"
#include "tests/support/op_case.h"
#include "tools/golden/golden_sgformer.h"
#include "tools/golden/relative_error.h"

using namespace sg;
using namespace sg::sgformer;
using sg::test::contains, sg::test::error_of;

namespace {

struct Nano {
  explicit Nano(bool recompute = false, double drop_path = 0, Dtype dtype = Dtype::f32) {
    Config c = find_config("sgformer_nano");
    c.recompute = recompute;
    c.drop_path = drop_path;
    model = std::make_unique<Classifier>(c);
    model->parameters().allocate(dtype);
    model->parameters().initialize(3);
  }
  std::unique_ptr<Classifier> model;
};

Tensor images() { return test::random({4, 28, 28, 3}, 1).to(Dtype::f32); }

std::vector<float> step(Classifier& model, uint64_t seed, uint64_t number,
                        int64_t first_sample = 0) {
  const Tensor drop_paths = draw_drop_paths(model.config(), 4, seed, number, first_sample);
  const Tensor logits = model.forward(images(), {.drop_paths = drop_paths}).logits;
  const Tensor targets = smooth_one_hot(from_vector<int32_t>({1, 2, 3, 4}, {4}), 1000, 0.1);
  model.parameters().clear_grads();
  autograd::backward(soft_cross_entropy(logits, targets).loss);
  return to_vector<float>(model.parameters().grads());
}

std::string message_of(const std::function<void(Config&)>& change) {
  Config c = find_config("sgformer_s");
  change(c);
  try {
    validate(c);
  } catch (const Error& e) {
    CHECK(e.code() == ExitCode::usage);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a step is a function of seed, step and place, and of nothing else") {
  Nano a(false, 0.5), b(false, 0.5);
  const auto gradients = step(*a.model, 1, 5);
  CHECK(step(*b.model, 1, 5) == gradients);
  CHECK(step(*a.model, 1, 6) != gradients);
  CHECK(step(*a.model, 2, 5) != gradients);
  CHECK(step(*a.model, 1, 5, 4) != gradients);
}

TEST_CASE("recompute gives the same bits and keeps less") {
  Nano plain(false, 0.3), recomputing(true, 0.3);
  Allocator& memory = Allocator::of({});
  const auto measure = [&](Classifier& model) {
    memory.reset_peak();
    const size_t before = memory.stats().in_use;
    const auto gradients = step(model, 1, 1);
    return std::pair{gradients, memory.stats().peak - before};
  };
  const auto [expected, plain_bytes] = measure(*plain.model);
  const auto [found, bytes] = measure(*recomputing.model);
  CHECK(found == expected);
  CHECK(bytes < plain_bytes * 3 / 4);
}

TEST_CASE("a training step asks the system for nothing after warm-up") {
  Nano nano(false, 0.1);
  for (uint64_t i = 0; i < 3; ++i) step(*nano.model, 1, i);
  const size_t before = Allocator::of({}).stats().system_allocations;
  for (uint64_t i = 3; i < 6; ++i) step(*nano.model, 1, i);
  CHECK(Allocator::of({}).stats().system_allocations == before);
}

TEST_CASE("images of a batch do not see each other") {
  Nano nano(false, 0, Dtype::f64);
  const Tensor images = test::random({3, 28, 28, 3}, 1);
  const autograd::NoGrad no_grad;
  const Tensor all = nano.model->forward(images).logits;
  for (int64_t i = 0; i < 3; ++i)
    CHECK(test::relative_error(nano.model->forward(images.slice(i, i + 1)).logits,
                               all.slice(i, i + 1)) < 1e-12);
}

TEST_CASE("features of a detection-sized image") {
  Nano nano;
  const autograd::NoGrad no_grad;
  const auto maps = nano.model->backbone().forward(zeros({1, 200, 336, 3})).maps;
  REQUIRE(maps.size() == 4);
  CHECK(maps[0].shape() == Shape{1, 100, 168, 24});
  CHECK(maps[3].shape() == Shape{1, 13, 21, 192});
  CHECK_THROWS_AS(nano.model->forward(zeros({1, 28, 28, 4})), Error);
  CHECK_THROWS_AS(nano.model->forward(zeros({1, 0, 28, 3})), Error);
}

TEST_CASE("drop-path rates rise linearly over all blocks") {
  const auto rates = drop_path_rates(find_config("sgformer_s"));
  REQUIRE(rates.size() == 23);
  CHECK(rates[0] == 0);
  CHECK(rates[1] == doctest::Approx(0.1 / 22));
  CHECK(rates[22] == doctest::Approx(0.1));
  CHECK(drop_path_rates(find_config("sgformer_m")).size() == 38);
  CHECK(drop_path_rates(find_config("sgformer_b"))[1] == doctest::Approx(0.4 / 35));
}

TEST_CASE("the two branches of a block are dropped each by itself, at the rate of the block") {
  constexpr int64_t kBatch = 4000;
  const Config s = find_config("sgformer_s");
  const auto rates = drop_path_rates(s);
  const auto keep = to_vector<double>(draw_drop_paths(s, kBatch, 1, 2, 0, Dtype::f64));
  REQUIRE(keep.size() == 2 * rates.size() * kBatch);
  for (size_t block = 0; block < rates.size(); ++block) {
    CAPTURE(block);
    const double rate = rates[block];
    double dropped[2] = {}, both = 0;
    for (size_t i = 0; i < kBatch; ++i) {
      bool drop[2];
      for (size_t branch = 0; branch < 2; ++branch) {
        const double k = keep[(2 * block + branch) * kBatch + i];
        drop[branch] = k == 0;
        if (!drop[branch]) CHECK(k == doctest::Approx(1 / (1 - rate)).epsilon(1e-6));
        dropped[branch] += drop[branch];
      }
      both += drop[0] && drop[1];
    }
    // Five standard deviations of a share of kBatch.
    const auto bound = [](double p) { return 5 * std::sqrt(p * (1 - p) / kBatch); };
    for (const double d : dropped) CHECK(std::abs(d / kBatch - rate) <= bound(rate));
    CHECK(std::abs(both / kBatch - rate * rate) <= bound(rate * rate));
  }
}

TEST_CASE("what does not fit is named") {
  CHECK(message_of([](Config&) {}) == "");
  CHECK(message_of([](Config& c) { c.stages[0].dim = 65; }) ==
        "sgformer_s: stage 1: width 65 must be a multiple of the heads; found 2");
  CHECK(message_of([](Config& c) { c.stages[1].depth = 3; }) ==
        "sgformer_s: stage 2: hybrid and self-guided blocks alternate, the depth must be even; "
        "found 3");
  CHECK(message_of([](Config& c) { c.stages[2].heads = 1; }).find("at most 64 wide") !=
        std::string::npos);
  CHECK(message_of([](Config& c) { c.stages[0].regions.pop_back(); }) ==
        "sgformer_s: stage 1: the shares of the regions must add to 1; found 3/4");
  CHECK(message_of([](Config& c) { c.stages[1].scales[0].scale = 0; }).find("a scale must be") !=
        std::string::npos);
  CHECK(message_of([](Config& c) { c.stages[1].regions[0].r = 0; }).find("from 1 to 65536") !=
        std::string::npos);
  CHECK(message_of([](Config& c) {
          set_regions(c, "1/4:65521,1/2:65519,1/4:65497");
        }).find("can be cut") != std::string::npos);
  CHECK(message_of([](Config& c) { c.window = 0; }).find("window") != std::string::npos);
  CHECK(message_of([](Config& c) { c.classes = 0; }) != "");
  CHECK(message_of([](Config& c) { c.drop_path = 1; }) != "");
  CHECK(message_of([](Config& c) { set_scales(c, "4,2,1"); }).find("3 scales") !=
        std::string::npos);
  for (const char* bad : {"8x,1", "", "8,,1", "0", "1;1;1;1;1", "4294967297,1"})
    CHECK_THROWS_AS(message_of([&](Config& c) { set_scales(c, bad); }), Error);
  for (const char* bad : {"1/4", "1/4:0", "a:1", "1/0:2", "1:2:3"})
    CHECK_THROWS_AS(message_of([&](Config& c) { set_regions(c, bad); }), Error);
  CHECK_THROWS_AS(parse_guidance("best"), Error);
  CHECK_THROWS_WITH_AS(find_config("sgformer_x"),
                       "model 'sgformer_x' is unknown; did you mean 'sgformer_s'?; known: "
                       "sgformer_nano, sgformer_s, sgformer_m, sgformer_b",
                       Error);
}

TEST_CASE("configurations survive JSON, and differences are named") {
  Config c = find_config("sgformer_b");
  set_scales(c, "8,4,2g,1");
  c.guidance = Guidance::global;
  const Config back = config_from_json(config_to_json(c));
  CHECK(config_differences(c, back) == "");
  Config other = c;
  other.classes = 7;
  CHECK(config_differences(c, other) == "  classes: 1000 | 7\n");
  // Whatever a file says, the outcome is a configuration that fits or an error of the checkpoint.
  const nlohmann::json whole = config_to_json(c);
  const auto refused = [&](const char* patch) {
    nlohmann::json j = whole;
    j.merge_patch(nlohmann::json::parse(patch));
    return error_of(ExitCode::checkpoint, [&] { config_from_json(j); });
  };
  CHECK(contains(refused(R"({"window":null})"), "window"));
  CHECK(contains(refused(R"({"window":7.5})"), "expected a whole number below 2^31, found 7.5"));
  CHECK(contains(refused(R"({"table":4294967352})"), "4294967352"));
  CHECK(contains(refused(R"({"guidance":"best"})"), "hybrid"));
  CHECK(contains(refused(R"({"mlp_ratio":0})"), "from 1 to 65536"));
  CHECK(contains(refused(R"({"stages":[]})"), "expected 4 stages"));
}

namespace {

// A training step of a model on a device, in a dtype.
struct Step {
  Tensor logits;
  std::vector<SignificanceMap> significance;
  std::vector<std::pair<std::string, Tensor>> gradients;  // of every parameter
  double rms = 0;                                         // of all elements of gradients
};

// With `reference`, tokens are ranked as there: rounding can change the order of near-ties.
Step run_step(Config config, int64_t side, Device device, Dtype dtype, const Step* reference) {
  config.drop_path = 0.3;
  Classifier model(config);
  nn::ParameterStore& p = model.parameters();
  p.allocate(dtype, device);
  // Not the weights of a beginning, whose attention is so even that gradients of queries cancel.
  for (const std::string& name : p.names())
    p.set(p.values(), name, golden::formula_parameter("step", name, p.part(name).official));
  const auto place = [&](const Tensor& t) { return t.to(acc_dtype(dtype)).to(device); };
  const Tensor x = test::random({2, side, side, 3}, 1).to(Dtype::f32).to(dtype).to(device);
  ForwardOptions options{.drop_paths = place(draw_drop_paths(config, 2, 1, 1, 0)),
                         .significance = true};
  if (reference) options.given_significance = reference->significance;
  for (SignificanceMap& s : options.given_significance) s.map = place(s.map);
  const Classifier::Output out = model.forward(x, options);
  const Tensor targets =
      smooth_one_hot(from_vector<int32_t>({1, 2}, {2}).to(device), 1000, 0.1, acc_dtype(dtype));
  p.clear_grads();
  autograd::backward(soft_cross_entropy(out.logits, targets).loss);
  p.zero_unreached_grads();
  Step step{out.logits.detach().to(Device{}), out.significance, {}};
  for (SignificanceMap& s : step.significance) s.map = s.map.to(Device{});
  double square = 0;
  for (const std::string& name : p.names()) {
    step.gradients.emplace_back(name, p.get(p.grads(), name));
    for (const double g : to_vector<double>(step.gradients.back().second)) square += g * g;
  }
  step.rms = std::sqrt(square / double(p.count()));
  return step;
}

// Within the bounds of whole models.
void check_step(const Config& config, Dtype dtype, const Step& found, const Step& expected) {
  CAPTURE(name_of(dtype));
  const double bound = golden::model_bound(config, dtype),
               of_gradients = golden::model_gradient_bound(config, dtype);
  test::check_close(found.logits, expected.logits, bound);
  REQUIRE(found.significance.size() == expected.significance.size());
  for (size_t i = 0; i < found.significance.size(); ++i) {
    CAPTURE(i);
    test::check_close(found.significance[i].map, expected.significance[i].map, bound);
  }
  REQUIRE(found.gradients.size() == expected.gradients.size());
  for (size_t i = 0; i < found.gradients.size(); ++i) {
    CAPTURE(expected.gradients[i].first);
    const Tensor &g = found.gradients[i].second, &e = expected.gradients[i].second;
    // In bf16 the gradients of all parameters are one, of which each is a row (golden_check).
    if (dtype == Dtype::bf16)
      CHECK(relative_error_of(g, e, expected.rms * std::sqrt(double(e.numel()))).whole <=
            of_gradients * worst_row_factor(int64_t(found.gradients.size()), e.numel()));
    else
      test::check_close(g, e, of_gradients);
  }
}

}  // namespace

TEST_CASE(
    "the whole network in f32 and bf16, also on cuda: the numbers of f64, the ranking given") {
  struct Size {
    const char* model;
    int64_t side;
  };
  std::vector<Size> sizes{{"sgformer_nano", 28}};
  if (!test::emulated()) sizes.insert(sizes.end(), {{"sgformer_nano", 224}, {"sgformer_s", 224}});
  const std::vector<Device> devices = test::devices();
  for (const auto& [name, side] : sizes) {
    CAPTURE(name);
    CAPTURE(side);
    const Config config = find_config(name);
    const Step expected = run_step(config, side, {}, Dtype::f64, nullptr);
    for (const Device device : devices)
      for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
        CAPTURE(str(device));
        check_step(config, dtype, run_step(config, side, device, dtype, &expected), expected);
      }
  }
}

TEST_CASE("significance that is given ranks the tokens, and what does not fit is named") {
  Nano nano;
  const autograd::NoGrad no_grad;
  const Classifier::Output own = nano.model->forward(images(), {.significance = true});
  REQUIRE(own.significance.size() >= 3);
  const auto logits = [&](const std::vector<SignificanceMap>& given) {
    return to_vector<float>(nano.model->forward(images(), {.given_significance = given}).logits);
  };
  CHECK(logits(own.significance) == to_vector<float>(own.logits));
  std::vector<SignificanceMap> other = own.significance;
  for (SignificanceMap& s : other) {
    s.map = s.map.clone();
    for (float& v : s.map.span<float>()) v = -v;
  }
  const Classifier::Output found =
      nano.model->forward(images(), {.significance = true, .given_significance = other});
  CHECK(to_vector<float>(found.logits) != to_vector<float>(own.logits));
  // The first map has no self-guided block before it: it is computed as before.
  CHECK(to_vector<float>(found.significance[0].map) == to_vector<float>(own.significance[0].map));

  const auto message = [&](const std::function<void(std::vector<SignificanceMap>&)>& change) {
    std::vector<SignificanceMap> given = own.significance;
    change(given);
    return error_of(ExitCode::failure, [&] { logits(given); });
  };
  CHECK(contains(message([](auto& g) { g.pop_back(); }), "given_significance: expected map"));
  CHECK(contains(message([](auto& g) { g.push_back(g[0]); }), "given_significance: expected"));
  CHECK(contains(message([](auto& g) { std::swap(g[0], g[1]); }), "to be that of block 0.0"));
  CHECK(contains(message([](auto& g) { g[0].map = zeros({4, 2, 2}); }), "expected shape"));
  CHECK(contains(message([](auto& g) { g[0].map = g[0].map.to(Dtype::f64); }), "expected f32"));
}
