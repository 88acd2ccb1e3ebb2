// The command lines of all programs: sizes, numbers, names that others use, and what is refused.
#include <algorithm>
#include <regex>
#include <set>

#include "core/cpu/bf16_products.h"
#include "io/file.h"
#include "io/yaml.h"
#include "tests/tools/runs.h"
#include "train/option_table.h"

namespace sg {

namespace fs = std::filesystem;
using namespace test;

namespace {

// The standard error of a program that refuses its arguments.
std::string refused(const std::string& command) {
  const Ran ran = run_program(command);
  CHECK_MESSAGE(ran.code == 2, command, ": ", ran.err);
  CHECK(!contains(ran.err, "Could not convert"));
  return ran.err;
}

// What args.json would say.
nlohmann::json dry_run(const fs::path& data, const std::string& flags) {
  const Ran ran = run_program(fmt::format(
      "sgtrain {} --dry-run --device cpu --model sgformer_nano {}", data.string(), flags));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  return nlohmann::json::parse(
      ran.out.substr(ran.out.find('{'), ran.out.rfind('}') + 1 - ran.out.find('{')));
}

}  // namespace

TEST_CASE("options: --img-size in all its forms, for sgtrain and sginfo") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const fs::path data = folder / "data";
  CHECK(dry_run(data, "-b 4 --img-size 20")["img_size"] == 20);
  CHECK(dry_run(data, "-b 4 --img-size 32 24")["img_size"] == "32 24");
  CHECK(dry_run(data, "-b 4 --img-size=32x24")["img_size"] == "32 24");
  CHECK(dry_run(data, "-b 4 --input-size 3 32 24")["img_size"] == "32 24");

  const auto size = [](const std::string& flags) {
    const auto j = run_program("sginfo sgformer_nano --json " + flags).json();
    return fmt::format("{} {}", j["height"].dump(), j["width"].dump());
  };
  CHECK(size("") == "28 28");
  CHECK(size("--img-size 32 24") == "32 24");
  CHECK(size("--img-size 32x24") == "32 24");
  CHECK(size("--img-size 32") == "32 32");
  CHECK(contains(refused("sginfo sgformer_nano --img-size 32x"), "--img-size: expected N, HEIGHT"));
  CHECK(contains(refused("sginfo sgformer_nano --img-size 32x9000"), "from 1 to 8192"));
  CHECK(contains(refused("sgtrain --input-size 1 32 32"), "--input-size: expected 3 HEIGHT WIDTH"));
}

TEST_CASE("options: a run at a size that is no square, evaluated and predicted at it") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_folders(data, 16, 8);
  const Ran ran = run_program(sgtrain(data, out, "--epochs 1 --img-size 32 24"));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out, "32 x 24"));
  const std::string checkpoint = (out / "checkpoints/best.safetensors").string();
  const Ran evaluated = run_program(
      fmt::format("sgeval --device cpu --data {} --checkpoint {}", data.string(), checkpoint));
  REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
  CHECK(contains(evaluated.out, "32 x 24"));
  CHECK(run_program(sgtrain(data, out, "--epochs 1 --img-size 32x24 --resume auto")).code == 0);
  CHECK(run_program(sgtrain(data, out, "--epochs 1 --img-size 24 32 --resume auto")).code == 4);
}

TEST_CASE("options: numbers are decimal; what is none is named with what is allowed") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  for (const char* flags : {"-b 010", "-b=10", "-b10", "--batch-size=010", "--batch 10"}) {
    CAPTURE(flags);
    CHECK(dry_run(folder / "data", flags)["batch_size"] == 10);
  }
  CHECK(dry_run(folder / "data", "-b 08")["batch_size"] == 8);
  for (const char* wrong : {"8x", "0x8", "eight", "1e1", "8.0"}) {
    CAPTURE(wrong);
    const std::string err = refused(fmt::format("sgtrain d -b {}", wrong));
    CHECK(contains(err, fmt::format("--batch-size: expected a whole number from 1 to 1048576, "
                                    "found '{}'",
                                    wrong)));
  }
  CHECK(contains(refused("sgtrain d --lr fast"), "--lr: expected a number from 0 to 1000, found"));
  CHECK(contains(refused("sgtrain d --scale 0.1 x"), "--scale: expected a number from"));
  CHECK(contains(refused("sgtrain d --eager=8x"), "--eager: expected no value, true or false"));
  CHECK(contains(refused("sgtrain d --scale 0.5"), "--scale: expected 2 numbers"));
  CHECK(contains(refused("sgtrain d --cutmix-minmax 0.5"), "--cutmix-minmax: expected 2 numbers"));
  CHECK(
      contains(refused("sgtrain d --cutmix-minmax 0.2 2"), "--cutmix-minmax: expected from 0 to"));
  CHECK(contains(refused("sgpredict a --checkpoint b --topk 0"), "--topk: expected from 1 to"));
  CHECK(contains(refused("sgbench --repeats 0x3"), "--repeats: expected a whole number from 1"));
  CHECK(contains(refused("sgbench --mode trian"), "did you mean 'train'"));
}

TEST_CASE("options: the file of -c is the one that is read, however it is written, the last wins") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const std::string a = (folder / "a.json").string(), b = (folder / "b.json").string();
  put(a, R"({"model":"sgformer_nano","seed":1,"batch_size":4})");
  put(b, R"({"model":"sgformer_nano","seed":2,"batch_size":4})");
  const auto seed = [&](const std::string& flags) {
    return dry_run(folder / "data", flags)["seed"].get<int>();
  };
  for (const std::string& flags : {"-c" + b, "-c " + b, "-c=" + b, "--config=" + b,
                                   "--config " + a + " -c " + b, "-c " + a + " -c" + b})
    CHECK_MESSAGE(seed(flags) == 2, flags);
  CHECK(seed("-c " + b + " --config " + a) == 1);
}

TEST_CASE("options: names of timm and torchrun, and nearest names") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const fs::path data = folder / "data";
  const auto args = dry_run(data, "-b 4 --model SGFormer_Nano --grad-accum-steps 2");
  CHECK(args["model"] == "sgformer_nano");
  CHECK(args["grad_accum"] == 2);
  CHECK(args["data"] == data.string());  // it was positional
  for (const char* flag : {"--data", "--data-dir", "--data-path"}) {
    const Ran ran = run_program(
        fmt::format("sgtrain {} {} --dry-run -b 4 --model sgformer_nano", flag, data.string()));
    CHECK_MESSAGE(ran.code == 0, ran.err);
  }
  put(folder / "c.json", R"({"batch_size": 5, "model": "sgformer_nano"})");
  CHECK(dry_run(data, "-c " + (folder / "c.json").string())["batch_size"] == 5);

  const auto hint = [](const std::string& flags) { return refused("sgtrain d " + flags); };
  CHECK(contains(hint("--wd 0.1"), "here it is '--weight-decay'"));
  CHECK(contains(hint("--num-workers 3"), "here it is '--workers'"));
  CHECK(contains(hint("--num_workers 3"), "here it is '--workers'"));  // as DeiT has it
  CHECK(contains(hint("--output_dir=r"), "here it is '--output'"));
  CHECK(contains(hint("--no-model-ema"), "here it is '--model-ema-decay 0'"));
  CHECK(contains(hint("--repeated-aug"), "here it is '--aug-repeats 3'"));
  CHECK(contains(hint("--no-pin-mem"), "leave '--pin-mem' out"));
  CHECK(contains(hint("--no-bce-loss"), "leave '--bce-loss' out"));
  CHECK(contains(hint("--bach-size=3"), "did you mean '--batch-size'"));
  CHECK(contains(hint("--model sgformer_t"), "did you mean 'sgformer_s'"));
  CHECK(contains(hint("--guidance globl"), "did you mean 'global'"));
  CHECK(!contains(hint("--zz rand"), "did you mean"));
  CHECK(contains(refused("sgeval --chekpoint f"), "did you mean '--checkpoint'"));
  CHECK(contains(refused("sgtrain a b"), "'b' is one argument too many"));
  CHECK(contains(refused("sgtrain a --train-split 0.tar 1.tar"), "a pattern of shards stands in"));
}

TEST_CASE("options: --help leaves out the flags of timm that are none of ours") {
  const Ran ran = run_program("sgtrain --help");
  CHECK(ran.code == 0);
  CHECK(contains(ran.out, "--mixup-mode"));
  for (const char* hidden : {"--worker-seeding", "--dist-bn", "\ntimm"})
    CHECK(!contains(ran.out, hidden));
}

TEST_CASE("options: base learning rates of others are --lr-base, which scales as theirs") {
  for (const char* name : {"--base-lr", "--blr"})
    CHECK(contains(refused(fmt::format("sgtrain --data d {} 1e-3", name)), "'--lr-base'"));
}

TEST_CASE("options: switches of timm for what is always so are accepted and explained once") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const std::string command = fmt::format(
      "sgtrain {} --dry-run --device cpu --model sgformer_nano -b 4 --amp --model-ema --model-ema "
      "--opt adamw --sched cosine --pin-mem --channels-last",
      (folder / "data").string());
  const Ran ran = run_program(command);
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.err, has_bf16_products() ? "--amp: --dtype bf16, with float32 weights"
                                              : "--amp: changes nothing: this CPU does not"));
  for (const char* flag :
       {"--model-ema: ", "--opt adamw: ", "--sched cosine: ", "--pin-mem: ", "--channels-last: "}) {
    CAPTURE(flag);
    const size_t at = ran.err.find(flag);
    REQUIRE(at != std::string::npos);
    CHECK(ran.err.find(flag, at + 1) == std::string::npos);
  }
  CHECK(contains(ran.out, has_bf16_products() ? "; bf16 by " + cpu_instructions() + "\n"
                                              : std::string("; f32\n")));
  CHECK(contains(refused("sgtrain d --opt sgd"), "--opt: expected adamw, found 'sgd'"));
  CHECK(contains(refused("sgtrain d --sched step"), "--sched: expected cosine, found 'step'"));
  CHECK(contains(refused("sgtrain d --model-ema --model-ema-decay 0"), "contradict"));
}

TEST_CASE("options: the configuration of docs/results.md is one of sgtrain") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 128, 8);
  const fs::path file = fs::path(SG_SOURCE_DIR) / "configs/cifar10_nano.yaml";
  const nlohmann::json used = dry_run(folder / "data", "--config " + file.string());
  const nlohmann::json configured = parse_yaml(read_file(file), file.string(), ExitCode::usage);
  for (const auto& [name, value] : configured.items()) CHECK_MESSAGE(used[name] == value, name);
}

TEST_CASE("options: tools/bench/torch_learning.py does or refuses all that change a run") {
  const std::string script = read_file(fs::path(SG_SOURCE_DIR) / "tools/bench/torch_learning.py");
  // They are part of the resolved learning rate, mean nothing without others that are refused or in
  // a process alone, or choose a checkpoint.
  const std::set<std::string> without_effect{
      "lr_base",           "lr_base_size", "lr_base_scale", "clip_mode",    "bce_sum",
      "bce_target_thresh", "eval_metric",  "reduce_order",  "reduce_dtype", "bucket_cap_mb"};
  train::Options o;
  train::each_option(o, [&](const train::OptionInfo& info, auto&) {
    std::string key(info.name());
    std::ranges::replace(key, '-', '_');
    const bool changes =
        info.on_resume == train::OnResume::fixed || info.on_resume == train::OnResume::noted;
    if (changes && !without_effect.contains(key))
      CHECK_MESSAGE(std::regex_search(script, std::regex("\\bo\\." + key + "\\b|\\b" + key + "=")),
                    key);
  });
}

}  // namespace sg
