#include "train/run_folder.h"

#include "io/safetensors.h"
#include "report/report.h"
#include "setups/setups.h"
#include "tests/support/files.h"
#include "train/checkpoint_folder.h"
#include "train/options.h"

using namespace sg;
using namespace sg::test;
using namespace sg::train;
namespace fs = std::filesystem;

namespace {

std::string own_args() {
  Options options = setups::default_options("sgformer_nano");
  options.data = "images";
  nlohmann::json args = to_json(options);
  args["version"] = "0.1.0";
  return args.dump(2);
}

const std::pair<const char*, std::string> kOwn[] = {
    {"train.log", "2026-01-31 12:00:00 sgtrain 0.1.0\n"},
    {"metrics.jsonl", "{\"epoch\":0,\"step\":1,\"time\":1.5}\n{\"epoch\":0,\"st"},
    {"metrics.cut.jsonl", "{\"epoch\":0,\"step\":1,\"time\":1.5}\n"},
    {"summary.csv", "epoch,train_loss,eval_loss\n"},
    {"report.html",
     report::report_html({.title = "a", .data = "b", .configuration = {}, .rows = {}})},
};

Checkpoint at(int step) { return {{{"w", full({4}, step)}}, {{"step", step}, {"epoch", step}}}; }

std::string refused(const fs::path& folder) {
  return error_of(ExitCode::usage, [&] { check_files_in_the_way(folder); });
}

}  // namespace

TEST_CASE("run folder: an empty one, one that is not there, and files of other names are free") {
  const TemporaryFolder folder;
  check_files_in_the_way(folder / "none");
  check_files_in_the_way(folder.path());
  for (const char* name : {"notes.txt", "events.out.tfevents.1.host", "metrics.json", ".lock"})
    put(folder / name, "of somebody");
  fs::create_directories(folder / "checkpoints");
  put(folder / "checkpoints/checkpoint-0000-mybackup.safetensors", "of somebody");
  check_files_in_the_way(folder.path());
}

TEST_CASE("run folder: a file by a name that a run writes to is in the way") {
  for (const char* name : {"args.json", "train.log", "metrics.jsonl", "metrics.cut.jsonl",
                           "summary.csv", "report.html"}) {
    const TemporaryFolder folder;
    put(folder / name, "{\"loss\": 1}\n");
    CHECK(contains(refused(folder.path()), name));
    CHECK(read_file(folder / name) == "{\"loss\": 1}\n");
    // So it is where the folder is that of a run.
    if (name == std::string("args.json")) continue;
    put(folder / "args.json", own_args());
    CHECK(contains(refused(folder.path()), name));
  }
  // What looks like a run's, without a run.
  for (const auto& [name, text] : kOwn) {
    const TemporaryFolder folder;
    put(folder / name, text);
    CHECK(contains(refused(folder.path()), name));
  }
}

TEST_CASE("run folder: a run's own files are not in the way, by args.json or by a checkpoint") {
  const TemporaryFolder folder;
  for (const auto& [name, text] : kOwn) put(folder / name, text);
  SUBCASE("args.json") { put(folder / "args.json", own_args()); }
  SUBCASE("a checkpoint") { CheckpointFolder(folder / "checkpoints").save(at(1)); }
  check_files_in_the_way(folder.path());
}

TEST_CASE("run folder: args.json of other programs") {
  const auto changed = [](const std::function<void(nlohmann::json&)>& change) {
    nlohmann::json args = nlohmann::json::parse(own_args());
    change(args);
    return args.dump();
  };
  for (const std::string& text :
       {std::string("no json"), std::string("[]"), std::string("{\"lr\": 0.1, \"version\": \"1\"}"),
        changed([](auto& j) { j.erase("version"); }), changed([](auto& j) { j["amp"] = true; })}) {
    const TemporaryFolder folder;
    put(folder / "args.json", text);
    CHECK(contains(refused(folder.path()), "args.json"));
  }
}

TEST_CASE("run folder: weights of other programs by a checkpoint's name are in the way") {
  for (const char* name : {"last.safetensors", "checkpoint-0000.safetensors"}) {
    const TemporaryFolder folder;
    fs::create_directories(folder / "checkpoints");
    write_safetensors(folder / "checkpoints" / name, {{"w", full({4}, 1)}}, {});
    put(folder / "args.json", own_args());
    CHECK(contains(refused(folder.path()), std::string("checkpoints/") + name));
  }
}

TEST_CASE("run folder: what a killed run left half-written goes, and nothing else") {
  const TemporaryFolder folder;
  put(folder / "report.html.unfinished.12.3", "x");
  for (const char* name : {"thesis.unfinished.12.3", "report.html.unfinished.draft"})
    put(folder / name, "x");
  remove_unfinished(folder.path());
  CHECK_FALSE(fs::exists(folder / "report.html.unfinished.12.3"));
  CHECK(fs::exists(folder / "thesis.unfinished.12.3"));
  CHECK(fs::exists(folder / "report.html.unfinished.draft"));
}

TEST_CASE("run folder: a file where the folder of the checkpoints is to be") {
  const TemporaryFolder folder;
  put(folder / "checkpoints", "of somebody");
  CHECK(contains(refused(folder.path()), "checkpoints; move them away"));
}

TEST_CASE("run folder: nesting that would overflow the stack is in the way, not a crash") {
  const std::string deep = "{\"a\":" + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  for (const char* name : {"args.json", "metrics.jsonl"}) {
    const TemporaryFolder folder;
    put(folder / name, deep + "\n");
    CHECK(contains(refused(folder.path()), name));
  }
}
