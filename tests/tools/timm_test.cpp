// Command lines and files of timm's train.py, the presets, docs/timm.md and docs/recipe.md.
#include "tools/common/timm.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include "io/checkpoint.h"
#include "tests/support/environment.h"
#include "tests/support/validate.h"
#include "tests/tools/runs.h"
#include "tests/tools/timm_flags.h"
#include "tools/common/options.h"

namespace sg {
namespace fs = std::filesystem;
using namespace test;

namespace {

const fs::path kSource = SG_SOURCE_DIR;

// What sgtrain makes of a command line.
train::Options parsed(std::vector<std::string> words) {
  words.insert(words.begin(), "sgtrain");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  CLI::App app;
  return tools::parse_train_options(app, int(argv.size()), argv.data());
}

std::string refused(const std::vector<std::string>& words) {
  return error_of(ExitCode::usage, [&] { test::validate(parsed(words)); });
}

// With what a whole run on ImageNet decides for itself.
nlohmann::json resolved(train::Options o) {
  test::validate(o);
  const data::TransformConfig t = train::transforms(o);
  o.img_size = t.img_size, o.crop_pct = t.crop_pct;
  o.lr = train::peak_learning_rate(o), o.warmup_epochs = train::warmup_epochs(o);
  o.drop_path = train::model_config(o).drop_path;
  o.model_ema_decay = o.model_ema_decay.value_or(0.99992);
  return train::to_json(o);
}

train::Options published(const std::string& model) {
  train::Options o = setups::default_options(model);
  o.data = "imagenet";
  return o;
}

std::vector<std::string> split(std::string text, char at) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, at);) parts.push_back(part);
  return parts;
}

// "`a`, `b`" -> a, b
std::vector<std::string> in_backticks(const std::string& cell) {
  std::vector<std::string> found;
  const auto parts = split(cell, '`');
  for (size_t i = 1; i < parts.size(); i += 2) found.push_back(parts[i]);
  return found;
}

// The names of an option of ours, by each of them.
std::set<std::string> names_of_ours() {
  std::set<std::string> names{"-vb", "--input-size"};  // see tools::arguments()
  train::Options o;
  train::each_option(o, [&](const train::OptionInfo& info, auto&) {
    for (const std::string& name : split(info.flags, ',')) names.insert(name);
  });
  return names;
}

}  // namespace

TEST_CASE("timm: every flag of train.py is ours, changes nothing, or is refused") {
  std::set<std::string> known = names_of_ours(), all;
  for (const tools::TimmFlag& f : tools::timm_flags())
    for (const std::string& name : split(f.flags, ',')) {
      CAPTURE(name);
      CHECK(known.insert(name).second);  // once
    }
  for (const char* flag : kTimmFlags) {
    CAPTURE(flag);
    CHECK(known.contains(flag));
    all.insert(flag);
  }
  all.insert(std::begin(kOlderFlags), std::end(kOlderFlags));
  for (const tools::TimmFlag& f : tools::timm_flags())
    CHECK_MESSAGE(all.contains(split(f.flags, ',')[0]), f.flags);
}

TEST_CASE("timm: docs/timm.md has a row for every flag, and says what the program does") {
  std::map<std::string, std::string> here;  // by flag
  std::istringstream lines(read_file(kSource / "docs/timm.md"));
  for (std::string line; std::getline(lines, line);)
    if (const auto cells = split(line, '|'); line.starts_with("| `") && cells.size() >= 3)
      for (const std::string& flag : in_backticks(cells[1]))
        CHECK_MESSAGE(here.emplace(flag, cells[2].substr(1, cells[2].size() - 2)).second, flag);
  std::set<std::string> theirs(std::begin(kTimmFlags), std::end(kTimmFlags));
  theirs.insert(std::begin(kOlderFlags), std::end(kOlderFlags));
  for (const tools::TimmFlag& f : tools::timm_flags()) {
    CAPTURE(f.flags);
    const std::string accepted = f.accepted;
    std::string expected = accepted == tools::TimmFlag::kAny    ? "changes nothing"
                           : accepted == tools::TimmFlag::kNone ? "an error"
                           : accepted == tools::TimmFlag::kAmp  ? "`--dtype bf16`"
                                                                : "";
    if (expected.empty())
      expected = fmt::format("`{}`; else an error", fmt::join(split(accepted, '|'), "` or `"));
    for (const std::string& name : split(f.flags, ',')) {
      CHECK(here[name] == expected);
      theirs.erase(name);
    }
  }
  const std::set<std::string> ours = names_of_ours();
  for (const std::string& flag : theirs) {
    CAPTURE(flag);
    REQUIRE(here.contains(flag));
    const auto names = in_backticks(here[flag]);
    CHECK(!names.empty());
    for (const std::string& name : names) CHECK_MESSAGE(ours.contains(name), name);
  }
}

TEST_CASE("timm: flags that change nothing are accepted, in all their forms") {
  const train::Options plain = parsed({"d", "--epochs", "7"});
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"--torchcompile"},
           {"--torchcompile", "inductor"},
           {"--drop", "0.0"},
           {"--dist-bn", "broadcast"},
           {"--dr", ".1"},
           {"--decay-milestones", "30", "60"},
           {"--local_rank", "0"},
           {"--local-rank=0"},
           {"--worker-seeding", "part"},
           {"--opt", "adamw", "--sched", "cosine", "--amp-impl", "native"},
           {"--opt", "AdamW", "--aot-autograd"},
           {"--pin-mem", "--channels-last", "--sync-bn", "--no-prefetcher", "--model-ema"},
           {"--interpolation", "bicubic", "--gp", "avg", "--in-chans", "3"}}) {
    CAPTURE(fmt::format("{}", fmt::join(words, " ")));
    std::vector<std::string> all{"d"};
    all.insert(all.end(), words.begin(), words.end());
    all.insert(all.end(), {"--epochs", "7"});
    CHECK(train::to_json(parsed(all)) == train::to_json(plain));
  }
}

TEST_CASE("timm: what is not here is refused with what to use") {
  CHECK(contains(refused({"d", "--log-wandb"}), "TensorBoard"));
  CHECK(contains(refused({"d", "--amp", "--amp-dtype", "float16"}), "--dtype bf16"));
  CHECK(contains(refused({"d", "--opt", "sgd"}), "--opt: expected adamw, found 'sgd'"));
  CHECK(contains(refused({"d", "--drop", "0.1"}), "--drop: expected 0, found '0.1'; "));
  CHECK(contains(refused({"d", "--jsd-loss"}), "--jsd-loss: there are no augmentation splits"));
  CHECK(contains(refused({"d", "--lr-noise", "0.4", "0.6"}), "--lr-noise: "));
  CHECK(contains(refused({"d", "--pretrained"}), "--initial-checkpoint"));
  CHECK(contains(refused({"d", "--nnodes", "2"}), "torchrun --no-python --nnodes ... "));
  for (const char* flag : {"--rdzv_endpoint=h:1", "--rdzv-id", "--standalone", "--master_addr"})
    CHECK_MESSAGE(contains(refused({"d", flag}), "is a flag of torchrun, not of sgtrain"), flag);
  CHECK(contains(refused({"d", "--eval_checkpoint", "f"}), "sgeval"));
  CHECK(
      contains(refused({"d", "--clip-grad", "1", "--clip-mode", "agc"}), "--clip-mode: expected"));
  CHECK(contains(refused({"d", "--worker-seeding"}), "--worker-seeding: 1 required VALUE missing"));
  CHECK(contains(refused({"d", "--model-ema=false"}), "--model-ema: expected no value, found 'fa"));
  CHECK(contains(refused({"d", "--input-size", "224", "-b", "4"}),
                 "HEIGHT WIDTH (3: red, green, "
                 "blue), found '224'; --img-size"));
  CHECK(contains(refused({"d", "--input-size=3", "64", "64"}), "found '=3 64 64'"));
}

TEST_CASE("timm: --local-rank is what torch.distributed.launch says twice") {
  const Environment local_rank("LOCAL_RANK", "3");
  CHECK(parsed({"d", "--local-rank=3"}).data == "d");
  CHECK(parsed({"d", "--local_rank", "3"}).data == "d");
  CHECK(contains(refused({"d", "--local-rank", "0"}), "--local_rank: expected LOCAL_RANK, found"));
  const Environment alone("LOCAL_RANK", {});
  CHECK(contains(refused({"d", "--local-rank", "3"}), "the environment says it"));
}

TEST_CASE("timm: -vb, and other forms of flags of ours") {
  CHECK(parsed({"d", "-b", "64", "-vb", "32"}).validation_batch_size == 32);
  CHECK(parsed({"d", "-vb=32"}).validation_batch_size == 32);
  CHECK(!parsed({"d", "-b=32"}).validation_batch_size);
  const train::Options o = parsed({"--data-dir", "d", "--opt-betas", "0.9", "0.95", "--opt-eps",
                                   "1e-6", "--grad-accum-steps", "4", "--input-size", "3", "192",
                                   "160", "--cutmix-minmax", "0.2", "0.8", "-j", "3"});
  CHECK(o.opt_betas == train::Pair{0.9, 0.95});
  CHECK(o.opt_eps == 1e-6);
  CHECK(o.grad_accum == 4);
  CHECK(o.img_size == ImageSize(192, 160));
  CHECK(o.data == "d");
}

TEST_CASE("timm: the args.yaml that train.py writes") {
  const TemporaryFolder folder;
  const std::string text = read_file(kSource / "tests/fuzz/corpus/config/timm_args.yaml");
  const std::string path = (folder / "args.yaml").string();
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    REQUIRE(changed.find(from + "\n") != changed.npos);
    changed.replace(changed.find(from + "\n"), from.size(), to);
    put(path, changed);
    return std::vector<std::string>{"-c", path};
  };
  const train::Options o = parsed(with("aa: rand-m9-mstd0.5-inc1", "aa: rand-m9-mstd0.5-inc1"));
  test::validate(o);
  CHECK(o.data == "/data/imagenet");
  CHECK(o.model == "sgformer_s");
  CHECK(o.img_size == ImageSize(192, 160));
  CHECK(o.grad_accum == 2);
  CHECK(o.aug_repeats == 3);
  CHECK(o.opt_eps == 1e-6);
  CHECK(o.opt_betas == train::Pair{0.9, 0.999});
  CHECK(o.patience_epochs == 0);  // timm's is no early stopping
  CHECK(o.device == "auto");
  CHECK(o.model_ema_decay == 0.9998);
  CHECK(o.model_ema_warmup);
  CHECK(o.sched_on_updates);
  CHECK(o.color_jitter == 0.4);
  CHECK(o.warmup_epochs == 5);
  CHECK(train::peak_learning_rate(o) == doctest::Approx(1e-3 * std::sqrt(0.25)));
  // Each key is one of train.py's.
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (!line.starts_with("-")) {
      std::string flag = "--" + split(line, ':')[0];
      if (flag == "--data" || flag == "--data_dir") continue;
      if (flag != "--local_rank") std::ranges::replace(flag, '_', '-');
      CHECK_MESSAGE(std::ranges::count(kTimmFlags, flag) == 1, flag);
    }

  // --lr wins over --lr-base, which the program warns of where somebody has set both.
  const std::string rates = "lr: null\nlr_base: 0.001";
  CHECK(parsed(with(rates, rates)).lr_base == 0.001);
  CHECK(parsed(with(rates, "lr: null\nlr_base: 0.1")).lr_base == 0.1);
  CHECK(!parsed(with(rates, "lr: 0.002\nlr_base: 0.1")).lr_base);
  CHECK(parsed(with(rates, "lr: 0.002\nlr_base: 0.2")).lr_base == 0.2);
  CHECK(parsed(with("aa: rand-m9-mstd0.5-inc1", "aa: null")).aa == "none");
  CHECK(parsed(with("model_ema: true", "model_ema: false")).model_ema_decay == 0.0);
  CHECK(contains(refused(with("sched: cosine", "sched: step")),
                 "args.yaml: --sched: expected cosine"));
  CHECK(contains(refused(with("log_wandb: false", "log_wandb: true")), "TensorBoard"));
  CHECK(contains(refused(with("drop: 0.0", "drop: 0.2")), "--drop: expected 0, found '0.2'"));
  CHECK(contains(refused(with("pin_mem: true", "pin_mem: 3")), "pin_mem: expected true or false"));
  CHECK(contains(refused(with("tta: 0", "tta: [")), "args.yaml: line "));
  CHECK(contains(refused(with("tta: 0", "ttta: 0")), "args.yaml: 'ttta' is not an option"));
  for (const char* more : {"aot_autograd: false", "opt: AdamW", "local-rank: 0", "pin-mem: true"}) {
    put(path, "model: SGFormer_B\n" + std::string(more) + "\n");  // not a whole file
    CHECK_MESSAGE(parsed({"-c", path}).model == "sgformer_b", more);
  }
  put(path, "model_ema: false\n");
  CHECK(parsed({"-c", path}).model_ema_decay == 0.0);
  CHECK(!parsed({"-c", path, "--model-ema"}).model_ema_decay);  // flags win
  put(path, "batch-size: 4\nbatch_size: 6\n");
  CHECK(contains(refused({"-c", path}), "args.yaml: batch_size occurs twice"));
  auto flags_win = with("opt: adamw", "opt: sgd");
  CHECK(contains(refused(flags_win), "--opt: expected adamw, found 'sgd'"));
  flags_win.insert(flags_win.end(), {"--opt", "adamw", "--epochs", "7"});
  CHECK(parsed(flags_win).epochs == 7);
}

TEST_CASE("timm: the official command, with our program's name in front, is the published recipe") {
  const train::Options o =
      parsed({"--data",   "imagenet", "--model",        "sgformer_s",  "-b",
              "128",      "--lr",     "1e-3",           "--drop-path", "0.1",
              "--epochs", "300",      "--weight-decay", ".05",         "--model-ema-decay",
              "0.99992",  "--amp",    "--img-size",     "224",         "--warmup-epochs",
              "20"});
  CHECK(resolved(o) == resolved(published("sgformer_s")));

  const TemporaryFolder folder;
  write_folders(folder / "data", 8, 2);
  const Ran ran = run_program(
      fmt::format("sgtrain --data {} --model sgformer_s -b 128 --lr 1e-3 --drop-path 0.1 --epochs "
                  "300 --weight-decay .05 --model-ema-decay 0.99992 --amp --device cpu --dry-run "
                  "-b 2 --img-size 32",  // so small a step that a test can take it
                  (folder / "data").string()));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out, "310 epochs of 4 steps of 2 images"));
  CHECK(contains(ran.out, "\"aa\": \"rand-m9-mstd0.5-inc1\""));
  CHECK(contains(ran.out, "weight decay 0.05"));
}

TEST_CASE("timm: --start-epoch, --no-resume-opt, -vb and --eval-metric of a run") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", first = folder / "first", other = folder / "other";
  write_idx(data, 16, 5);
  Ran ran = run_program(sgtrain(data, first, "--epochs 2 -vb 3"));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  const std::string go_on = fmt::format("--epochs 2 --resume {} ", first.string());
  ran = run_program(sgtrain(data, other, go_on + "--eval-metric loss"));
  CHECK(ran.code == 4);
  CHECK(contains(ran.err, "eval_metric            \"top1\" -> \"loss\""));
  ran = run_program(sgtrain(data, other, go_on + "--start-epoch 1 --no-resume-opt"));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  const auto state_of = [](const fs::path& run) {
    return load_checkpoint(run / "checkpoints/last.safetensors").state;
  };
  const auto before = state_of(first), after = state_of(other);
  CHECK(after["step"] == before["step"]);
  CHECK(2 * after["updates"].get<int>() == before["updates"].get<int>());  // one epoch of two
  CHECK(!after["args"].contains("start_epoch"));
  CHECK(run_program(sgtrain(data, other, "--resume auto --start-epoch 1")).code == 2);
}

TEST_CASE("docs/recipe.md: the tests that its table of traps names are there") {
  const auto tests_in = [](const std::string& file) {
    // Literals over several lines become one.
    const std::string text = std::regex_replace(read_file(kSource / "tests" / (file + ".cpp")),
                                                std::regex("\"\\s+\""), "");
    std::string names;
    const std::regex test("TEST_CASE\\(\\s*\"([^\"]*)");
    for (std::sregex_iterator i(text.begin(), text.end(), test), end; i != end; ++i)
      names += i->str(1) + "\n";
    return names;
  };
  int traps = 0;
  std::istringstream lines(read_file(kSource / "docs/recipe.md"));
  for (std::string line; std::getline(lines, line);) {
    if (!std::regex_search(line, std::regex("^\\| [0-9]+ \\|"))) continue;
    ++traps;
    std::string tests;  // of the files named last
    for (const std::string& part : split(split(line, '|')[3], ';')) {
      const std::vector<std::string> files = in_backticks(part);
      if (!files.empty()) tests.clear();
      for (const std::string& file : files) tests += tests_in(file);
      CHECK_MESSAGE(!tests.empty(), part);
      const size_t colon = files.empty() ? 0 : part.find(": ");
      if (colon == part.npos) continue;  // all tests of the file
      std::string name = part.substr(files.empty() ? 1 : colon + 2);
      name = name.substr(0, name.find(". ["));  // a link to more behind it
      CHECK_MESSAGE(contains(tests, name.substr(0, name.find_last_not_of(' ') + 1)), line);
    }
  }
  CHECK(traps == 23);
}

TEST_CASE("presets: 224 is the published recipe of each model, 384 our fine-tuning") {
  for (const std::string model : {"sgformer_s", "sgformer_m", "sgformer_b"}) {
    CAPTURE(model);
    const auto config = [&](const char* size) {
      return (kSource / "configs" / fmt::format("{}_{}.yaml", model, size)).string();
    };
    CHECK(resolved(parsed({"imagenet", "-c", config("224")})) == resolved(published(model)));

    const train::Options o = parsed({"imagenet", "-c", config("384")});
    test::validate(o);
    CHECK(o.model == model);
    CHECK(train::transforms(o).img_size == ImageSize(384, 384));
    CHECK(train::transforms(o).crop_pct == 1.0);
    CHECK(train::total_epochs(o) == 30);
    CHECK(train::peak_learning_rate(o) == 5e-6);
    CHECK(o.weight_decay == 1e-8);
    CHECK(train::model_config(o).drop_path == 0.4);
    CHECK(contains(read_file(config("384")), "in our own reading"));
  }
}

}  // namespace sg
