#include "sgformer/weights.h"

#include <algorithm>

#include "io/checkpoint.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;
using namespace sg::sgformer;
namespace fs = std::filesystem;

namespace {

std::vector<NamedTensor> weights() {
  return {{"head.weight", from_vector<float>({1, 2, 3, 4, 5, 6}, {3, 2})},
          {"head.bias", from_vector<float>({0.5f, -0.5f, 0}, {3})},
          {"empty", empty({0, 2})}};
}

Checkpoint sample() {
  Checkpoint c{weights(), {{"step", 7}}};
  for (const NamedTensor& t : prefixed(kEma, weights())) c.tensors.push_back(t);
  return c;
}

std::vector<std::string> names(const std::vector<NamedTensor>& tensors) {
  std::vector<std::string> result;
  for (const auto& [name, tensor] : tensors) result.push_back(name);
  std::ranges::sort(result);
  return result;
}

}  // namespace

TEST_CASE("weights come out of every wrapping") {
  const TemporaryFolder folder;
  const fs::path path = folder / "w.safetensors";
  const Tensor one = full({2}, 1), two = full({2}, 2);
  const auto load = [&](const std::vector<NamedTensor>& tensors, bool ema) {
    write_safetensors(path, tensors);
    const auto weights = load_weights(path, ema);
    REQUIRE(weights.size() == 1);
    CHECK(weights[0].first == "head.bias");
    return to_vector<float>(weights[0].second)[0];
  };
  CHECK(load({{"head.bias", one}}, false) == 1);
  CHECK(load({{"module.head.bias", one}}, false) == 1);
  CHECK(load({{"state_dict.head.bias", one}, {"optimizer.x", two}}, false) == 1);
  CHECK(load({{"state_dict.module.head.bias", one}, {"state_dict_ema.module.head.bias", two}},
             true) == 2);
  CHECK(load({{"model.head.bias", one}, {"model_ema.head.bias", two}}, true) == 2);

  save_checkpoint(path, sample());
  CHECK(names(load_weights(path, true)) == names(load_weights(path)));
  write_safetensors(path, {{"head.bias", one}});
  CHECK(contains(error_of(ExitCode::checkpoint, [&] { load_weights(path, true); }), "EMA"));
  Checkpoint c = sample();
  c.tensors = part(c.tensors, "");
  save_checkpoint(path, c);
  CHECK(contains(error_of(ExitCode::checkpoint, [&] { load_weights(path, true); }), "EMA"));
}

TEST_CASE("differences from a model are a table") {
  const auto found = weights();
  CHECK(
      differences(found, {{"head.weight", {3, 2}}, {"head.bias", {3}}, {"empty", {0, 2}}}).none());
  const Differences d =
      differences(found, {{"head.weight", {10, 2}}, {"head.bias", {3}}, {"norm.weight", {8}}});
  CHECK(d.missing == std::vector<std::string>{"norm.weight"});
  CHECK(d.unexpected == std::vector<std::string>{"empty"});
  REQUIRE(d.shapes.size() == 1);
  const std::string table = d.table();
  CHECK(contains(table, "missing from the file (1):\n  norm.weight\n"));
  CHECK(contains(table, "not in the model (1):\n  empty\n"));
  CHECK(contains(table, "head.weight"));
  CHECK(contains(table, "model (10, 2)"));
  CHECK(contains(table, "file (3, 2)"));
  CHECK(contains(d.table(0), "... and 1 more"));
}

TEST_CASE("weights come out of the files of PyTorch") {
  const fs::path golden = shared("golden/pth");
  if (golden.empty()) return;
  const auto expected = load_weights(golden / "ddp_bare.pth");
  CHECK(expected.size() > 200);
  CHECK_FALSE(has_ema(golden / "ddp_bare.pth"));
  for (const char* file : {"timm_zip.pth", "timm_legacy.pth.tar"}) {
    CHECK(has_ema(golden / file));
    const auto found = load_weights(golden / file), ema = load_weights(golden / file, true);
    REQUIRE(names(found) == names(expected));
    REQUIRE(names(ema) == names(expected));
    for (size_t i = 0; i < found.size(); ++i) {
      const auto raw = to_vector<float>(found[i].second);
      CHECK(raw == to_vector<float>(expected[i].second));
      auto half = raw;
      for (float& x : half) x /= 2;
      CHECK(to_vector<float>(ema[i].second) == half);
    }
  }
  CHECK(contains(
      error_of(ExitCode::checkpoint, [&] { load_weights(golden / "ddp_bare.pth", true); }), "EMA"));
  const TemporaryFolder folder;
  put(folder / "a.pth", "text");
  CHECK(contains(error_of(ExitCode::checkpoint, [&] { load_weights(folder / "a.pth"); }),
                 "expected a file of torch.save"));
}
