#include "sgformer/model.h"

#include <doctest/doctest.h>

#include "core/backend.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "sgformer/config_json.h"
#include "tests/support/files.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::sgformer;
using sg::test::contains, sg::test::error_of;

namespace {

struct Nano {
  explicit Nano(bool recompute = false, double drop_path = 0, Dtype dtype = Dtype::f32) {
    Config c = find_config("sgformer_nano");
    c.recompute = recompute;
    c.drop_path = drop_path;
    model = std::make_unique<Model>(c);
    model->parameters().allocate(dtype);
    model->parameters().initialize(3);
  }
  std::unique_ptr<Model> model;
};

Tensor images() { return test::random({4, 28, 28, 3}, 1).to(Dtype::f32); }

std::vector<float> step(Model& model, uint64_t seed, uint64_t number, int64_t first_sample = 0) {
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
  const auto measure = [&](Model& model) {
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
  const auto maps = nano.model->features(zeros({1, 200, 336, 3}));
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

TEST_CASE("the cut of a ranking holds every token once, whatever their number") {
  for (const int s : {8, 4, 2})
    for (int64_t n = 1; n <= 4000; ++n) {
      const RankingCut cut = cut_ranking(published_regions(s), n);
      int64_t ranks = 0, first_r = 0;
      for (const RegionCut& r : cut.regions) {
        ranks += r.tokens * r.r;
        if (first_r == 0 && r.tokens > 0) first_r = r.r;
      }
      REQUIRE(ranks == n + cut.virtual_tokens);
      REQUIRE(cut.virtual_tokens < first_r);  // no chunk of virtual tokens alone
    }
}

TEST_CASE("the whole network on cuda: the CPU's numbers") {
  const Device cuda{DeviceType::cuda, 0};
  if (!available(cuda)) return;
  // Equal significance, so that the ranking, which rounding can change, is the same.
  const auto gradients = [](Device device, Dtype dtype) {
    Config c = find_config("sgformer_nano");
    c.guidance = Guidance::uniform;
    c.drop_path = 0.3;
    Model model(c);
    model.parameters().allocate(dtype, device);
    model.parameters().initialize(3);
    const Tensor x = images().slice(0, 2).to(dtype).to(device);
    const Tensor drop_paths = draw_drop_paths(c, 2, 1, 1, 0).to(device);
    const Tensor logits = model.forward(x, {.drop_paths = drop_paths}).logits;
    const Tensor targets = smooth_one_hot(from_vector<int32_t>({1, 2}, {2}).to(device), 1000, 0.1);
    model.parameters().clear_grads();
    autograd::backward(soft_cross_entropy(logits, targets).loss);
    model.parameters().complete_grads();
    return std::pair{logits.to(Device{}).to(Dtype::f32), model.parameters().grads().to(Device{})};
  };
  const auto [logits, expected] = gradients({}, Dtype::f32);
  const auto [f32_logits, f32] = gradients(cuda, Dtype::f32);
  CHECK(test::relative_error(f32_logits, logits) < 1e-4);
  CHECK(test::relative_error(f32, expected) < 1e-4);
  // A hundred roundings in a row to bf16, whose errors are as often up as down.
  const auto [bf16_logits, bf16] = gradients(cuda, Dtype::bf16);
  CHECK(test::relative_error(bf16_logits, logits) < 10 * 0x1p-9);
  CHECK(test::relative_error(bf16, expected) < 20 * 0x1p-9);
}
