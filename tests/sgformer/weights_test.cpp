#include "sgformer/weights.h"

#include <algorithm>
#include <cstdlib>
#include <map>

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
    const Weights weights = load_weights(path, ema);
    REQUIRE(weights.tensors.size() == 1);
    CHECK(weights.tensors[0].first == "head.bias");
    CHECK(weights.ema == ema);
    return to_vector<float>(weights.tensors[0].second)[0];
  };
  CHECK(load({{"head.bias", one}}, false) == 1);
  CHECK(load({{"module.head.bias", one}}, false) == 1);
  CHECK(load({{"state_dict.head.bias", one}, {"optimizer.x", two}}, false) == 1);
  CHECK(load({{"state_dict.module.head.bias", one}, {"state_dict_ema.module.head.bias", two}},
             true) == 2);
  CHECK(load({{"model.head.bias", one}, {"model_ema.head.bias", two}}, true) == 2);
  CHECK(load({{"model.head.bias", one}, {"model_ema.head.bias", two}}, false) == 1);

  save_checkpoint(path, sample());
  CHECK(load_weights(path).ema);
  CHECK(names(load_weights(path, true).tensors) == names(load_weights(path, false).tensors));
  write_safetensors(path, {{"head.bias", one}});
  CHECK(contains(error_of(ExitCode::checkpoint, [&] { load_weights(path, true); }),
                 "holds no averaged (EMA) weights, only others (bare names)"));
  Checkpoint c = sample();
  c.tensors = part(c.tensors, "");
  save_checkpoint(path, c);
  CHECK(contains(error_of(ExitCode::checkpoint, [&] { load_weights(path, true); }), "EMA"));
  CHECK_FALSE(load_weights(path).ema);
}

TEST_CASE("which weights were taken is told in a line") {
  const TemporaryFolder folder;
  const fs::path path = folder / "w.pth";  // the name does not count
  const Tensor one = full({2}, 1), two = full({2}, 2);
  const auto summary = [&](std::optional<bool> ema) {
    return load_weights(path, ema).summary.substr(path.string().size());
  };
  write_safetensors(path, {{"state_dict.module.head.bias", one}});
  CHECK(summary({}) ==
        ": the weights (none are averaged), 1 tensors, 'state_dict.module.' taken off their names");
  write_safetensors(path, {{"model.head.bias", one}, {"model_ema.module.head.bias", two}});
  CHECK(summary({}) ==
        ": the averaged (EMA) weights, 1 tensors, 'model_ema.module.' taken off their "
        "names; --no-ema takes the others");
  CHECK(summary(false) ==
        ": the weights, not the averaged (EMA) ones, 1 tensors, 'model.' taken off their names");
  save_checkpoint(path, sample());
  CHECK(summary({}) == ": the averaged (EMA) weights, 3 tensors; --no-ema takes the others");
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
  const auto expected = load_weights(golden / "ddp_bare.pth").tensors;
  CHECK(expected.size() > 200);
  for (const char* file : {"timm_zip.pth", "timm_legacy.pth.tar"}) {
    CHECK(load_weights(golden / file).ema);
    const auto found = load_weights(golden / file, false).tensors;
    const auto ema = load_weights(golden / file, true).tensors;
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
                 "found text"));
}

TEST_CASE("every wrapping and pickle of common tools gives the same weights") {
  const fs::path archive = shared("cases/weights/weights.tar.xz"), golden = shared("golden/pth");
  if (archive.empty() || golden.empty()) return;
  const TemporaryFolder folder;
  REQUIRE(std::system(fmt::format("cd {} && tar -xf {}", folder.path().string(),
                                  fs::absolute(archive).string())
                          .c_str()) == 0);
  const auto expected = load_weights(golden / "ddp_bare.pth").tensors;
  size_t files = 0;
  for (const auto& item : fs::directory_iterator(folder.path())) {
    CAPTURE(item.path().filename().string());
    const Weights found = load_weights(item.path(), false);
    REQUIRE(names(found.tensors) == names(expected));
    std::map<std::string, Tensor> by_name(found.tensors.begin(), found.tensors.end());
    for (const auto& [name, tensor] : expected)
      REQUIRE(to_vector<float>(by_name[name]) == to_vector<float>(tensor));
    ++files;
  }
  CHECK(files > 10);
  const Weights averaged = load_weights(folder / "torchvision_ema.pth");
  CHECK(averaged.ema);
  CHECK(averaged.prefix == "model_ema.module.");
  REQUIRE(names(averaged.tensors) == names(expected));
  std::map<std::string, Tensor> by_name(averaged.tensors.begin(), averaged.tensors.end());
  for (const auto& [name, tensor] : expected) {
    auto half = to_vector<float>(tensor);
    for (float& x : half) x /= 2;
    REQUIRE(to_vector<float>(by_name[name]) == half);
  }
}
