// --dtype bf16 of the programs, on a CPU that multiplies it and on one that does not.
#include <doctest/doctest.h>

#include <cmath>

#include "core/cpu/bf16_products.h"
#include "tests/support/environment.h"
#include "tests/support/skip.h"
#include "tests/tools/runs.h"
#include "tools/common/options.h"
#include "tools/golden/golden_sgformer.h"

namespace sg {

namespace fs = std::filesystem;
using namespace test;

namespace {

// Asked before WithoutBf16 is there, which oneDNN in this process would heed too.
const bool kHasBf16 = has_bf16_products();

// Programs take the CPU to be one that does not multiply bf16.
struct WithoutBf16 : Environment {
  WithoutBf16() : Environment("ONEDNN_MAX_CPU_ISA", "AVX512_CORE") {}
};

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

TEST_CASE("bf16: a CPU that does not multiply it does not train, and infers where it is asked to") {
  const WithoutBf16 without;
  const TemporaryFolder folder;
  write_idx(folder / "data", 8, 3);
  put(folder / "x.png", png_image(28, 28));
  save_as_checkpoint(*nano(), folder / "nano.safetensors");
  const std::string data = (folder / "data").string(),
                    of_nano = " --checkpoint " + (folder / "nano.safetensors").string(),
                    bench =
                        "sgbench --batch 1 --warmup 0 --repeats 1 --no-roofline --model "
                        "sgformer_nano --mode ";
  for (const std::string& command :
       {"sgtrain --data " + data, bench + "train", bench + "train --emulate-bf16"}) {
    const Ran ran = run_program(command + " --device cpu --dtype bf16");
    CHECK_MESSAGE(ran.code == 2, ran.err);
    CHECK_MESSAGE(contains(ran.err, "AVX512-BF16 or AMX; it has "), ran.err);
    if (kHasBf16) CHECK(contains(ran.err, "AVX512 (ONEDNN_MAX_CPU_ISA=AVX512_CORE)"));
    CHECK_MESSAGE(ran.err.ends_with("; use f32\n"), ran.err);
  }
  CHECK(contains(run_program("sgtrain --data d --emulate-bf16").err, "--emulate-bf16"));
  CHECK(run_program("sgtrain --data d --device cpu --amp --amp-dtype bfloat16").code == 2);
  std::vector<std::string> inference{bench + "infer",
                                     "sgeval --num-classes 3 --data " + data + of_nano,
                                     "sgeval --amp --num-classes 3 --data " + data + of_nano,
                                     "sgpredict " + (folder / "x.png").string() + of_nano};
  if (const fs::path golden = shared("golden/modules/mlp.safetensors"); !golden.empty())
    inference.push_back("golden_check " + golden.string());
  for (const std::string& command : inference) {
    const Ran refused = run_program(command + " --device cpu --dtype bf16");
    CHECK_MESSAGE(refused.code == 2, refused.err);
    CHECK_MESSAGE(contains(refused.err, "; use f32, or --emulate-bf16 "), refused.err);
    const Ran asked = run_program(command + " --device cpu --dtype bf16 --emulate-bf16");
    CHECK_MESSAGE(asked.code == 0, asked.err);
    CHECK_MESSAGE(contains(asked.err, "; bf16 by conversion to f32\n"), asked.err);
  }
}

TEST_CASE("bf16: sgeval and sgpredict find what f32 does, to its precision") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_folders(data, 32, 8);
  // Equal significance, so that the ranking, which rounding can change, is the same.
  const auto ran = run_program(sgtrain(data, out, "--guidance uniform"));
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
  const auto loss = [&](const std::string& flags) {
    const auto evaluated = run_program(fmt::format("sgeval --data {} --checkpoint {} --json {}",
                                                   data.string(), checkpoint, flags));
    REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
    CHECK(evaluated.json()["images"] == 8);
    return evaluated.json()["loss"].get<double>();
  };
  const auto expected = predict("--device cpu");
  const double expected_loss = loss("--device cpu");
  REQUIRE(expected.size() == 8);
  const double bound = golden::model_bound(sgformer::find_config("sgformer_nano"), Dtype::bf16);
  const auto check_flags = [&](const std::string& flags) {
    CAPTURE(flags);
    const fs::path panels = folder / std::to_string(std::hash<std::string>()(flags));
    const auto found = predict(flags + " --significance " + panels.string());
    CHECK(fs::exists(panels / "0000.png"));
    REQUIRE(found.size() == 8);
    CHECK(found != expected);
    double mean_norm = 0;
    for (size_t i = 0; i < 8; ++i) {
      std::vector<double> difference = found[i];
      for (size_t c = 0; c < difference.size(); ++c) difference[c] -= expected[i][c];
      CHECK(norm(difference) <= bound * norm(expected[i]));
      mean_norm += norm(expected[i]) / 8;
    }
    // The gradient of a cross entropy by its logits is sqrt(2) long at most.
    CHECK(std::abs(loss(flags) - expected_loss) <= std::sqrt(2) * bound * mean_norm);
  };
  check_flags("--device cpu --dtype bf16 --emulate-bf16");
  {
    const WithoutBf16 without;
    check_flags("--dtype bf16 --emulate-bf16 --device cpu");
  }
  if (!emulated() && have_cuda()) check_flags("--device cuda");
}

TEST_CASE("bf16: --amp of timm is it where the device has it, or where --amp-dtype names it") {
  const auto dtype = [](std::vector<std::string> words) {
    words.insert(words.begin(), {"sgtrain", "--data", "d", "--device"});
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    CLI::App app;
    return tools::parse_train_options(app, int(argv.size()), argv.data()).dtype;
  };
  const std::string where_fast = kHasBf16 ? "bf16" : "auto";
  CHECK(dtype({"cpu", "--amp"}) == where_fast);
  CHECK(dtype({"cpu", "--native-amp"}) == where_fast);
  CHECK(dtype({"cpu", "--amp", "--amp-dtype", "bfloat16"}) == "bf16");
  CHECK(dtype({"cpu", "--amp", "--dtype", "bf16"}) == "bf16");
  CHECK(dtype({"cpu", "--amp-dtype", "bfloat16"}) == "auto");  // of --amp alone
  if (have_cuda()) CHECK(dtype({"cuda", "--amp", "--amp-dtype", "bfloat16"}) == "auto");
  CHECK(contains(error_of(ExitCode::usage,
                          [&] {
                            dtype({"cpu", "--amp", "--dtype", "f32"});
                          }),
                 "--amp and --dtype f32 contradict each other"));
}

TEST_CASE("bf16: a run on a CPU says so, and goes on with the same bits, or in f32") {
  if (!have_cpu_bf16()) return;
  const TemporaryFolder folder;
  const fs::path data = folder / "data";
  write_idx(data, 32, 10);
  const auto train = [&](const std::string& name, const std::string& flags) {
    const auto ran = run_program(
        sgtrain(data, folder / name, "-b 4 --grad-accum 4 --clip-grad 1 --resume auto " + flags));
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    return ran.out + ran.err;
  };
  train("whole", "--dtype bf16");
  const std::string said = "bf16 by " + cpu_instructions();
  CHECK(contains(read_file(folder / "whole/train.log"), "computing on cpu: CPU; " + said));
  CHECK(contains(read_file(folder / "whole/report.html"), said));
  const auto args = nlohmann::json::parse(read_file(folder / "whole/args.json"));
  CHECK(args["dtype"] == "bf16");
  CHECK(args["resolved"]["arithmetic"] == said);
  for (const auto& [first, then] : {std::pair("bf16", "bf16"), {"bf16", "f32"}, {"f32", "bf16"}}) {
    const std::string name = fmt::format("{}-{}", first, then);
    CAPTURE(name);
    train(name, fmt::format("--max-steps 3 --dtype {}", first));
    const std::string out = train(name, fmt::format("--dtype {}", then));
    const bool same = name == "bf16-bf16";
    CHECK(contains(out, fmt::format("dtype                  \"{}\" -> \"{}\"", first, then)) ==
          !same);
    CHECK((last_tensors(folder / name) == last_tensors(folder / "whole")) == same);
    CHECK((numbers(folder / name) == numbers(folder / "whole")) == same);
  }
}

}  // namespace sg
