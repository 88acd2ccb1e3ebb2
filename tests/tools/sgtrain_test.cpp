// Whole runs of the program, on images that it learns in a second.
#include <signal.h>
#include <unistd.h>

#include <cmath>

#include "io/checkpoint.h"
#include "tests/tools/runs.h"

namespace sg {

namespace fs = std::filesystem;
using namespace test;

namespace {

int shell(const std::string& command) { return std::system(program(command).c_str()); }

}  // namespace

TEST_CASE("sgtrain: --ema and --no-ema choose the weights to begin with, and it says which") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", weights = folder / "w.pth";
  write_idx(data, 16, 4);
  const auto model = nano();
  std::vector<NamedTensor> tensors;
  for (const char* prefix : {"model.", "model_ema."})
    for (const std::string& name : model->parameters().names())
      tensors.emplace_back(prefix + name,
                           model->parameters().get(model->parameters().values(), name));
  write_safetensors(weights, tensors);
  const auto begun = [&](const std::string& flags) {
    const auto ran = run_program(sgtrain(
        data, folder / "out",
        fmt::format("--initial-checkpoint {} --reset-head --dry-run {}", weights.string(), flags)));
    CHECK_MESSAGE(ran.code == 0, ran.err);
    return ran.out;
  };
  CHECK(contains(begun(""), "w.pth: the averaged (EMA) weights"));
  CHECK(contains(begun("--ema"), "w.pth: the averaged (EMA) weights"));
  CHECK(contains(begun("--no-ema"), "w.pth: the weights, not the averaged (EMA) ones"));
}

TEST_CASE("sgtrain: frozen stages keep their weights; layers have learning rates of their own") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out", weights = folder / "w.safetensors";
  write_idx(data, 16, 4);
  save_as_weights(*nano(), weights);
  const std::string from = fmt::format("--initial-checkpoint {} --reset-head", weights.string());
  const auto ran =
      run_program(sgtrain(data, out, from + " --epochs 1 --freeze 2 --layer-decay 0.5"));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out, ": frozen\n"));
  CHECK(contains(ran.out, ": learning rate x 1, weight decay 0.05\n"));  // the head
  CHECK(contains(ran.out, ": learning rate x 0.5, no weight decay\n"));  // the last block
  const auto args = nlohmann::json::parse(read_file(out / "args.json"));
  CHECK(args["freeze"] == "2");
  CHECK(args["layer_decay"] == 0.5);

  const Checkpoint last = load_checkpoint(out / "checkpoints/last.safetensors");
  const auto initial = nano();
  int frozen = 0, trained = 0;
  for (const auto& [name, tensor] : part(last.tensors, "")) {
    if (name.starts_with("head.")) continue;
    CAPTURE(name);
    const auto tensors = [&, &name = name](std::string_view prefix) {
      for (const auto& [other, values] : part(last.tensors, prefix))
        if (other == name) return to_vector<float>(values);
      return std::vector<float>();
    };
    const auto now = to_vector<float>(tensor), moment = tensors(kMoment1);
    const auto then =
        to_vector<float>(initial->parameters().get(initial->parameters().values(), name));
    const char stage = name == "pos_embed" ? '1' : name[name.find_first_of("1234")];
    if (stage <= '2') {
      CHECK(now == then);
      CHECK(tensors(kEma) == then);
      CHECK(moment == std::vector<float>(then.size()));
      ++frozen;
    } else {
      CHECK(now != then);
      ++trained;
    }
  }
  CHECK(frozen > 50);
  CHECK(trained > 50);

  const std::string more = "--epochs 1 --resume auto ";
  const auto thawed = run_program(sgtrain(data, out, more + "--layer-decay 0.5"));
  CHECK(thawed.code == 4);
  CHECK(contains(thawed.err, "\"2\" -> \"\""));
  const auto noted = run_program(sgtrain(data, out, more + "--freeze 2 --layer-decay 0.25"));
  CHECK(noted.code == 0);
  CHECK(contains(noted.err, "0.5 -> 0.25"));
}

TEST_CASE("sgtrain: a run's files, and its evaluation by sgeval") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_idx(data, 32, 12);
  const auto ran = run_program(sgtrain(data, out));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out, "Train: 1 [3/4 (100%)] Loss: "));
  CHECK(contains(ran.out, "\n * Acc@1 "));
  CHECK(contains(ran.out, "Test (EMA): [1/2 (100%)] Time: "));
  for (const char* name :
       {"args.json", "train.log", "metrics.jsonl", "summary.csv", "report.html",
        "checkpoints/last.safetensors", "checkpoints/best.safetensors",
        "checkpoints/checkpoint-0000.safetensors", "checkpoints/checkpoint-0001.safetensors"})
    CHECK_MESSAGE(fs::exists(out / name), name);
  CHECK(contains(read_file(out / "report.html"), "data:image/png;base64,"));
  const auto args = nlohmann::json::parse(read_file(out / "args.json"));
  CHECK(args["version"].is_string());
  CHECK(args["resolved"]["num_classes"] == 10);  // of an IDX set without names
  CHECK(args["batch_size"] == 8);

  // The last row of summary.csv is what sgeval finds, with other batches and threads.
  const std::string summary = read_file(out / "summary.csv");
  const auto evaluated =
      run_program(fmt::format("sgeval --device cpu --data {} --checkpoint {} -b 5 --json",
                              data.string(), (out / "checkpoints/last.safetensors").string()));
  REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
  const auto j = evaluated.json();
  CHECK(j["images"] == 12);
  CHECK(j["ema"] == true);
  CHECK(contains(summary, fmt::format(",{},{}\n", j["top1"].dump(), j["top5"].dump())));
  const auto raw =
      run_program(fmt::format("sgeval --device cpu --data {} --checkpoint {} --no-ema",
                              data.string(), (out / "checkpoints/last.safetensors").string()));
  CHECK(contains(raw.out, "\n * Acc@1 "));

  SUBCASE(
      "a second run in the folder is refused, and going on with one that is done does nothing") {
    const auto again = run_program(sgtrain(data, out));
    CHECK(again.code == 2);
    CHECK(contains(again.err, "--resume auto"));
    CHECK(run_program(sgtrain(data, out, "--resume auto")).code == 0);
    CHECK(read_file(out / "summary.csv") == summary);
  }
  SUBCASE("args.json gives the same run again, and flags win over it") {
    const fs::path other = folder / "other";
    const std::string config = (out / "args.json").string();
    CHECK(run_program(
              fmt::format("sgtrain --config {} --output {} --workers 0", config, other.string()))
              .code == 0);
    CHECK(last_tensors(other) == last_tensors(out));
    CHECK(numbers(other) == numbers(out));
    const auto dry = run_program(fmt::format("sgtrain --config {} -b 4 --dry-run", config));
    CHECK(dry.code == 0);
    CHECK(contains(dry.out, "\"batch_size\": 4"));
  }
  SUBCASE("another configuration is refused with what differs") {
    const auto other = run_program(sgtrain(data, out, "-b 4 --resume auto"));
    CHECK(other.code == 4);
    CHECK(
        contains(other.err, "images a step          8 -> 4 (--grad-accum 2 makes them the same)"));
  }
  SUBCASE("its weights begin another run; a head of other classes must be asked for") {
    const std::string from =
        "--initial-checkpoint " + (out / "checkpoints/best.safetensors").string();
    const fs::path other = folder / "other";
    CHECK(run_program(sgtrain(data, other, from + " --max-steps 1")).code == 0);
    const auto head = run_program(sgtrain(data, folder / "third", from + " --num-classes 12"));
    CHECK(head.code == 4);
    CHECK(contains(head.err, "--reset-head"));
    CHECK(run_program(sgtrain(data, folder / "third",
                              from + " --num-classes 12 --reset-head --max-steps 1"))
              .code == 0);
  }
  SUBCASE("a damaged checkpoint: the one before is taken") {
    std::string bytes = read_file(out / "checkpoints/checkpoint-0001.safetensors");
    bytes[bytes.size() / 2] ^= 1;
    const auto before = last_tensors(out);
    for (const char* name : {"last", "best", "good", "checkpoint-0001"}) {
      fs::remove(out / "checkpoints" / (std::string(name) + ".safetensors"));
      put(out / "checkpoints" / (std::string(name) + ".safetensors"), bytes);
    }
    const auto ran_again = run_program(sgtrain(data, out, "--resume auto"));
    CHECK(ran_again.code == 0);
    CHECK(contains(ran_again.err, "damaged"));
    CHECK(contains(ran_again.out, "checkpoint-0000.safetensors, step 4"));
    CHECK(last_tensors(out) == before);
    CHECK(read_file(out / "summary.csv") == summary);
  }
}

TEST_CASE("sgtrain: stopped by a signal, it has saved, and goes on with the same bits") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", whole = folder / "whole", out = folder / "out";
  write_idx(data, 64, 8);
  const std::string flags = "--epochs 40 --resume auto --max-steps ";
  for (int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    const fs::path log = out / "train.log";
    const size_t before = fs::exists(log) ? read_file(log).size() : 0;
    const pid_t child = start_program(sgtrain(data, out, "--epochs 40 --resume auto"));
    REQUIRE(wait_for_text(log, "Train: ", before));
    ::kill(child, signal);
    CHECK(finish(child) == 75);
  }
  const auto step = checkpoint_state(out / "checkpoints/last.safetensors")["step"].get<int>();
  CHECK(step >= 3);
  const std::string to = flags + std::to_string(step + 2);
  CHECK(run_program(sgtrain(data, out, to)).code == 0);
  CHECK(run_program(sgtrain(data, whole, to)).code == 0);
  CHECK(last_tensors(out) == last_tensors(whole));
  CHECK(numbers(out) == numbers(whole));
}

TEST_CASE("sgtrain: killed, it loses the steps since its checkpoint alone") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", whole = folder / "whole", out = folder / "out";
  write_idx(data, 64, 8);
  const pid_t child = start_program(sgtrain(data, out, "--recovery-interval 2"));
  REQUIRE(wait_for_text(out / "train.log", "Train: 0 [4/8"));
  ::kill(child, SIGKILL);
  CHECK(finish(child) == 128 + SIGKILL);
  const auto rest = run_program(sgtrain(data, out, "--recovery-interval 2 --resume auto"));
  CHECK(rest.code == 0);
  CHECK(contains(rest.out, "resuming from "));
  CHECK(run_program(sgtrain(data, whole)).code == 0);
  CHECK(last_tensors(out) == last_tensors(whole));
  CHECK(numbers(out) == numbers(whole));
}

TEST_CASE("sgtrain: a second signal ends at once; two runs in one folder") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_idx(data, 512, 8);
  const pid_t child = start_program(sgtrain(data, out, "-b 512"));  // a step takes a while
  REQUIRE(wait_for_text(out / "train.log", "writing to"));
  const auto second = run_program(sgtrain(data, out, "--resume auto"));
  CHECK(second.code == 2);
  CHECK(contains(second.err, out.string()));
  ::kill(child, SIGTERM), ::usleep(1000), ::kill(child, SIGINT);
  CHECK(finish(child) == 128 + SIGINT);
}

TEST_CASE("sgtrain: images in folders, a broken one among them") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_folders(data, 40, 8);
  put(data / "train/bar2/zz.jpg", "no image");
  const auto ran = run_program(sgtrain(data, out, "--epochs 1 --smoothing 0"));
  CHECK_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.err, "zz.jpg"));
  CHECK(nlohmann::json::parse(read_file(out / "args.json"))["resolved"]["num_classes"] == 4);
  CHECK(run_program(fmt::format("sgeval --device cpu --data {} --checkpoint {}",
                                (data / "val").string(),
                                (out / "checkpoints/best.safetensors").string()))
            .code == 0);
}

TEST_CASE("sgtrain: standard output closed or gone, the run goes on") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  CHECK(shell(sgtrain(folder / "data", folder / "a", "--epochs 1 >&- 2>&- <&-")) == 0);
  CHECK(fs::exists(folder / "a" / "report.html"));
  // A reader that leaves after the first line.
  CHECK(shell(sgtrain(folder / "data", folder / "b", "--epochs 1 2>&1 | head -n 1 >/dev/null")) ==
        0);
  for (int i = 0; i < 6000 && !fs::exists(folder / "b/report.html"); ++i) ::usleep(10000);
  CHECK(contains(read_file(folder / "b/train.log"), "done: "));
}

TEST_CASE("sgtrain: --dry-run writes nothing") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const auto ran = run_program(sgtrain(folder / "data", folder / "out", "--dry-run"));
  CHECK(ran.code == 0);
  CHECK(contains(ran.out, "16 training and 8 validation images"));
  CHECK(contains(ran.out, "2 epochs of 2 steps"));
  CHECK(!fs::exists(folder / "out"));
  // What would end the run at once ends this one.
  const auto lost =
      run_program(sgtrain(folder / "data", folder / "out", "--dry-run --resume none"));
  CHECK(lost.code == 4);
  CHECK(contains(lost.err, "none: cannot be opened"));
}

TEST_CASE("sgtrain: what is wrong is said before the first step") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const fs::path data = folder / "data", out = folder / "out";
  const auto refused = [&](int code, const std::string& flags, const std::string& message) {
    const auto ran = run_program(sgtrain(data, out, flags));
    CHECK(ran.code == code);
    CHECK_MESSAGE(contains(ran.err, message), ran.err);
    CHECK(!contains(ran.out, "Train: "));
  };
  refused(2, "--hue 0.8", "'--hue' is not a flag of sgtrain");
  refused(2, "--bach-size 3", "did you mean '--batch-size'");
  refused(2, "--lr fast", "--lr");
  refused(2, "--lr -1", "--lr: expected from 0");
  refused(2, "--smoothing=1.5", "--smoothing: expected from 0 to 1, found 1.5");
  refused(2, "--model sgformer_x", "sgformer_s");
  refused(2, "--num-classes 3", "--num-classes");
  refused(2, "-b 17", "17");
  refused(2, "--grad-accum 3", "--grad-accum");
  refused(2, "--config " + (folder / "none.json").string(), "none.json");
  // Not "not even a batch of 1048576 fits": a batch that mixes as one group may be any other.
  refused(1, "--mixup 0.5 -b 1048576", "fits, and --grad-accum makes up for it");
  refused(3, "--data " + (folder / "nowhere").string(), "nowhere");
  refused(4, "--resume " + (folder / "none.safetensors").string(), "none.safetensors");
  refused(4, "--initial-checkpoint " + (folder / "none.safetensors").string(), "none.safetensors");
  CHECK(run_program(sgtrain(data, "/proc/sgtrain")).code != 0);
  CHECK(run_program("sgtrain --data").code == 2);
  CHECK(run_program("sgtrain").code == 2);
  const auto help = run_program("sgtrain --model sgformer_nano --help");
  CHECK(help.code == 0);
  CHECK(contains(help.out, "--model-ema-decay"));
  CHECK(contains(help.out, "--epochs INT=3"));  // of the model that is asked for
  size_t at = 0;
  for (const char* heading : {"\nModel:\n", "\nData and augmentation:\n", "\nOptimization:\n",
                              "\nRuntime:\n", "\nOutput:\n"}) {
    CHECK(help.out.find(heading, at) != std::string::npos);
    at = help.out.find(heading, at);
  }
}

TEST_CASE("sgtrain: a run that explodes names a checkpoint and flags by which it goes on") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_folders(data, 72, 24);
  const std::string flags =
      "--warmup-epochs 3 --epochs 8 --min-lr 1e-4 --warmup-lr 1e-3 --model-ema-decay 0 "
      "--recovery-interval 3 ";
  const auto failed = run_program(sgtrain(data, out, flags + "--lr 1000"));
  CHECK(failed.code == 6);
  const size_t advice = failed.err.rfind("--resume ");
  REQUIRE_MESSAGE(advice != std::string::npos, failed.err);
  std::string named = failed.err.substr(advice);
  named.pop_back();  // the end of the line
  const auto rest = run_program(sgtrain(data, out, flags + named));
  REQUIRE_MESSAGE(rest.code == 0, rest.err);
  const std::string summary = read_file(out / "summary.csv");
  CHECK(std::ranges::count(summary, '\n') == 9);
  CHECK(!contains(summary, ",,"));
}

TEST_CASE("sgeval: weights that are not finite are named; images that cannot be read are counted") {
  const TemporaryFolder folder;
  write_folders(folder / "data", 12, 12);
  const auto evaluate = [&](const fs::path& weights) {
    return run_program(
        fmt::format("sgeval --device cpu --data {} --checkpoint {} --model sgformer_nano "
                    "--num-classes 4 --json",
                    (folder / "data").string(), weights.string()));
  };
  sgformer::Config config = sgformer::find_config("sgformer_nano");
  config.classes = 4;
  sgformer::Classifier model(config);
  model.parameters().allocate();
  model.parameters().initialize(1);
  save_as_weights(model, folder / "w.safetensors");
  for (int i = 0; i < 5; ++i)
    put(folder / fmt::format("data/val/bar0/broken{}.png", i), "no image");
  const auto whole = evaluate(folder / "w.safetensors");
  REQUIRE_MESSAGE(whole.code == 0, whole.err);
  CHECK(whole.json()["images"] == 12);
  CHECK(whole.json()["skipped"] == 5);
  CHECK(contains(whole.err, "5 of 17 images could not be read"));

  const auto set = [&](float value) {
    auto& store = model.parameters();
    store.set(store.values(), "head.bias", full({4}, value));
    save_as_weights(model, folder / "w.safetensors");
    return evaluate(folder / "w.safetensors");
  };
  const auto poisoned = set(NAN);
  CHECK(poisoned.code == 6);
  CHECK(poisoned.out == "");
  CHECK(contains(poisoned.err, "tensor 'head.bias' holds values that are not finite"));
}

TEST_CASE("sgtrain: what was decided for a run is decided anew by its args.json") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_folders(data, 16, 8);
  const std::string short_run = fmt::format(
      "sgtrain --device cpu --data {} --output {} --model sgformer_nano -b 8 --epochs 2 --threads "
      "1",
      data.string(), out.string());
  REQUIRE(run_program(short_run).code == 0);
  const auto args = nlohmann::json::parse(read_file(out / "args.json"));
  for (const char* key : {"model_ema_decay", "img_size", "num_classes", "crop_pct", "drop_path",
                          "lr", "warmup_epochs"}) {
    CHECK_MESSAGE(!args.contains(key), key);
    CHECK_MESSAGE(args["resolved"].contains(key), key);
  }
  CHECK(args["dtype"] == "auto");
  CHECK(args["resolved"]["model_ema_decay"] == 0.0);  // so short a run has no averaged weights
  CHECK(contains(read_file(out / "report.html"), "<code>0.002</code>"));  // the learning rate used
  const auto longer = run_program(
      fmt::format("sgtrain --config {} --epochs 100 --dry-run", (out / "args.json").string()));
  REQUIRE_MESSAGE(longer.code == 0, longer.err);
  CHECK(contains(longer.out, "\"model_ema_decay\": 0.8"));
  CHECK(run_program(short_run + " --resume auto").code == 0);
}

TEST_CASE("sgtrain: --lr-base, weights of classes, frozen stages and patience in one run") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out", file = folder / "weights.json";
  write_folders(data, 16, 8);
  put(file, R"({"bar0": 1, "bar1": 2, "bar2": 0.5, "bar3": 1})");
  const std::string flags = fmt::format(
      "sgtrain --device cpu --data {} --output {} --model sgformer_nano -b 8 --threads 1 --workers "
      "0 "
      "--epochs 10 --lr-base 1e-8 --min-lr 0 --warmup-lr 0 --freeze backbone --patience-epochs 2 "
      "--class-weights ",
      data.string(), out.string());
  const auto ran = run_program(flags + file.string());
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out, "learning rate 1.768e-09: --lr-base 1e-08 for steps of 256 images"));
  CHECK(contains(ran.out, "early stop: 2 epochs without a better top1"));
  CHECK(contains(ran.err, "--lr-base scales it"));
  CHECK(nlohmann::json::parse(read_file(out / "args.json"))["class_weights"] == file.string());
  CHECK(checkpoint_state(out / "checkpoints/last.safetensors")["class_weights"] ==
        nlohmann::json{1.0, 2.0, 0.5, 1.0});
  const auto resumed = run_program(flags + "balanced --resume auto");
  CHECK(resumed.code == 0);
  CHECK(contains(resumed.err, "[1.0,2.0,0.5,1.0] -> [1.0,1.0,1.0,1.0]"));
  CHECK(run_program(flags + "none").code == 2);
}

}  // namespace sg
