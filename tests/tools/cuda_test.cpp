// Whole runs of the programs on a GPU. That they train, and what they write, is tested on the CPU
// (sgtrain_test.cpp); here that a GPU gives the same, and the same bits each time.
#include <signal.h>

#include <cmath>

#include "io/checkpoint.h"
#include "tests/tools/runs.h"
#include "tools/golden/golden_sgformer.h"

namespace sg {

namespace fs = std::filesystem;
using namespace test;

namespace {

// The logits of every image, less their mean, by the probabilities that sgpredict tells.
std::vector<std::vector<double>> logits(const Ran& predicted) {
  std::vector<std::vector<double>> all;
  for (const auto& image : predicted.json()) {
    std::vector<double> z(image["classes"].size());
    double mean = 0;
    for (const auto& c : image["classes"]) {
      const double v = std::log(c["probability"].get<double>());
      z.at(c["index"].get<size_t>()) = v, mean += v / double(z.size());
    }
    for (double& v : z) v -= mean;
    all.push_back(z);
  }
  return all;
}

double norm(const std::vector<double>& v) {
  double square = 0;
  for (const double x : v) square += x * x;
  return std::sqrt(square);
}

}  // namespace

TEST_CASE("sgtrain on cuda: the same bits again, recorded or operation by operation") {
  if (!have_gpu()) return;
  const TemporaryFolder folder;
  write_idx(folder / "data", 32, 12);
  const auto train = [&](const std::string& name, const std::string& flags) {
    const auto ran = run_program(sgtrain(folder / "data", folder / name, "--device cuda " + flags));
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    CHECK_MESSAGE(contains(ran.out, "computing on cuda:0: "), ran.out);
    return ran;
  };
  const auto same = [&](const std::string& a, const std::string& b) {
    CHECK(last_tensors(folder / a) == last_tensors(folder / b));
    CHECK(numbers(folder / a) == numbers(folder / b));
  };
  CHECK(contains(train("recorded", "").out, ", bf16\n"));
  train("again", ""), same("again", "recorded");
  train("eager", "--eager"), same("eager", "recorded");
  CHECK(contains(train("f32", "--dtype f32").out, ", f32\n"));
  train("f32_eager", "--dtype f32 --eager"), same("f32_eager", "f32");
  CHECK(numbers(folder / "f32") != numbers(folder / "recorded"));
  const std::string s = "--model sgformer_s --img-size 224 --max-steps 4 ";
  train("s", s), train("s_eager", s + "--eager"), same("s_eager", "s");
  CHECK(fs::exists(folder / "recorded" / "report.html"));

  // sgeval finds what the run found at its end.
  const auto evaluated = run_program(fmt::format(
      "sgeval --data {} --checkpoint {} -b 8 --json --device cuda", (folder / "data").string(),
      (folder / "recorded" / "checkpoints/last.safetensors").string()));
  REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
  const auto j = evaluated.json();
  CHECK(j["images"] == 12);
  CHECK(contains(read_file(folder / "recorded" / "summary.csv"),
                 fmt::format(",{},{}\n", j["top1"].dump(), j["top5"].dump())));
}

TEST_CASE("sgtrain on cuda: stopped by a signal, it goes on with the same bits") {
  if (!have_gpu()) return;
  const TemporaryFolder folder;
  const fs::path data = folder / "data", whole = folder / "whole", out = folder / "out";
  write_idx(data, 64, 8);
  const std::string flags = "--device cuda --epochs 40 --resume auto";
  const pid_t child = start_program(sgtrain(data, out, flags));
  REQUIRE(wait_for_text(out / "train.log", "Train: "));
  ::kill(child, SIGTERM);
  REQUIRE(finish(child) == 75);
  const auto step = checkpoint_state(out / "checkpoints/last.safetensors")["step"].get<int>();
  const std::string to = fmt::format("{} --max-steps {}", flags, step + 3);
  CHECK(run_program(sgtrain(data, out, to)).code == 0);
  CHECK(run_program(sgtrain(data, whole, to)).code == 0);
  CHECK(last_tensors(out) == last_tensors(whole));
  CHECK(numbers(out) == numbers(whole));
}

TEST_CASE("sgeval and sgpredict on cuda: what the CPU finds, to the precision of bf16") {
  if (!have_gpu()) return;
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_folders(data, 32, 8);
  // Equal significance, so that the ranking, which rounding can change, is the same.
  const auto ran = run_program(sgtrain(data, out, "--device cuda --guidance uniform"));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  const std::string checkpoint = (out / "checkpoints/last.safetensors").string();
  std::string images;
  for (const auto& entry : fs::recursive_directory_iterator(data / "val"))
    if (entry.is_regular_file()) images += " " + entry.path().string();

  const auto predict = [&](const std::string& flags) {
    const auto predicted = run_program(
        fmt::format("sgpredict --checkpoint {} --json {} {}", checkpoint, flags, images));
    REQUIRE_MESSAGE(predicted.code == 0, predicted.err);
    return logits(predicted);
  };
  const auto expected = predict("--device cpu");
  const auto found = predict("--device cuda --significance " + (folder / "map.png").string());
  CHECK(fs::exists(folder / "map-0000.png"));
  REQUIRE(expected.size() == 8);
  REQUIRE(found.size() == 8);
  const double bound = golden::model_bound(sgformer::find_config("sgformer_nano"), Dtype::bf16);
  double mean_norm = 0;
  for (size_t i = 0; i < 8; ++i) {
    std::vector<double> difference = found[i];
    for (size_t c = 0; c < difference.size(); ++c) difference[c] -= expected[i][c];
    CHECK(norm(difference) <= bound * norm(expected[i]));
    mean_norm += norm(expected[i]) / 8;
  }

  const auto loss = [&](const std::string& device) {
    const auto evaluated = run_program(fmt::format(
        "sgeval --data {} --checkpoint {} --json --device {}", data.string(), checkpoint, device));
    REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
    CHECK(evaluated.json()["images"] == 8);
    return evaluated.json()["loss"].get<double>();
  };
  // The gradient of a cross entropy by its logits is sqrt(2) long at most.
  CHECK(std::abs(loss("cuda") - loss("cpu")) <= std::sqrt(2) * bound * mean_norm);
}

}  // namespace sg
