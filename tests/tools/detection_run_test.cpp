// sgtrain --task detection, from a folder of images to a report, and the programs on what it made.
#include <doctest/doctest.h>

#include <sstream>

#include "tests/support/coco_scenes.h"
#include "tests/tools/runs.h"

using namespace sg;
using namespace sg::test;

namespace {

struct Runs : TemporaryFolder {
  Runs() {
    put_coco_scenes(*this / "data", "train", {.count = 8});
    put_coco_scenes(*this / "data", "val", {.count = 3});
  }
  std::string operator()(const std::string& name) const { return (*this / name).string(); }
  std::string command(const std::string& name, const std::string& more) const {
    return fmt::format(
        "sgtrain --task detection --model sgformer_nano --data {} --output {} --image-scale 96 64 "
        "-b 2 --warmup-steps 2 --device cpu --threads 1 --workers 1 --log-interval 1 {}",
        (*this)("data"), (*this)(name), more);
  }
  Ran train(const std::string& name, const std::string& more) const {
    return run_program(command(name, more));
  }
};

std::vector<nlohmann::json> rows_of(const std::filesystem::path& run) {
  std::vector<nlohmann::json> rows;
  std::istringstream lines(read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

}  // namespace

TEST_CASE("sgtrain: of detection, a run that is ended and resumed is one that never was") {
  const Runs runs;
  const Ran whole = runs.train("whole", "--epochs 2");
  REQUIRE_MESSAGE(whole.code == 0, whole.err);
  const Ran begun = runs.train("part", "--epochs 2 --max-steps 3");
  REQUIRE_MESSAGE(begun.code == 0, begun.err);
  const Ran resumed = runs.train("part", "--epochs 2 --resume auto");
  REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
  CHECK(last_tensors(runs / "part") == last_tensors(runs / "whole"));

  const std::string page = read_file(runs / "whole/report.html");
  for (const char* shown :
       {"What it finds", "Training images", "Scores by class", "square", "Average precision of"})
    CHECK_MESSAGE(contains(page, shown), shown);

  // sgeval sees the images as the run did, and has its scores.
  const std::string results = runs("results.json");
  const Ran ran = run_program(fmt::format(
      "sgeval --json --per-class --device cpu --data {} --checkpoint {} --results-file {}",
      runs("data"), runs("whole"), results));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  double box = -1, mask = -1;
  for (const nlohmann::json& row : rows_of(runs / "whole"))
    if (row.contains("eval_box_AP") && row["eval_box_AP"].get<double>() > box)
      box = row["eval_box_AP"], mask = row["eval_mask_AP"];
  const nlohmann::json j = ran.json();
  CHECK(100 * j["bbox"]["AP"].get<double>() == doctest::Approx(box).epsilon(1e-9));
  CHECK(100 * j["segm"]["AP"].get<double>() == doctest::Approx(mask).epsilon(1e-9));
  CHECK(j["bbox"]["per_class"].size() == 2);

  // So has whoever evaluates the results.
  for (const std::string kind : {"bbox", "segm"}) {
    const Ran again = run_program(fmt::format(
        "sgeval --json --coco-annotations {} --coco-results {} --iou-type {}",
        runs("data/annotations/instances_val.json"), runs("results." + kind + ".json"), kind));
    REQUIRE_MESSAGE(again.code == 0, again.err);
    for (const char* name : {"AP", "AP50", "APs", "AR100"})
      CHECK(again.json()[name] == j[kind][name]);
  }
}

TEST_CASE("sgtrain: of detection, the loss falls, and the programs use what was learnt") {
  const Runs runs;
  const Ran ran = runs.train("run", "--epochs 8 --lr 2e-3");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  std::vector<double> losses;
  for (const nlohmann::json& row : rows_of(runs / "run"))
    if (row.contains("train_loss")) losses.push_back(row["train_loss"]);
  REQUIRE(losses.size() >= 2);
  CHECK(losses.back() < 0.8 * losses.front());

  const Ran predicted = run_program(
      fmt::format("sgpredict --device cpu --checkpoint {} {} --output {} --score 0.01 --json",
                  runs("run"), runs("data/val"), runs("out")));
  REQUIRE_MESSAGE(predicted.code == 0, predicted.err);
  CHECK(std::filesystem::exists(runs / "out/000-objects.png"));
  for (const nlohmann::json& o : predicted.json()) {
    CHECK((o["category_id"] == 3 || o["category_id"] == 7));
    CHECK(o["bbox"].size() == 4);
    CHECK(o["segmentation"].contains("counts"));
  }
  const Ran info =
      run_program(fmt::format("sginfo --json --checkpoint {} --img-size 64", runs("run")));
  REQUIRE_MESSAGE(info.code == 0, info.err);
  CHECK(info.json()["classes"] == 2);
  const Ran converted =
      run_program(fmt::format("sgconvert {} {}", runs("run"), runs("weights.safetensors")));
  REQUIRE_MESSAGE(converted.code == 0, converted.err);
  // Of weights alone the scale is the published one, but for the flag.
  const std::string evaluate = fmt::format(
      "sgeval --json --device cpu --data {} --image-scale 96 64 --model sgformer_nano "
      "--checkpoint ",
      runs("data"));
  const Ran of_weights = run_program(evaluate + runs("weights.safetensors"));
  REQUIRE_MESSAGE(of_weights.code == 0, of_weights.err);
  CHECK(of_weights.json()["bbox"] == run_program(evaluate + runs("run")).json()["bbox"]);
}

TEST_CASE("sgtrain: of detection, two processes") {
  const Runs runs;
  const Ran ran = runs.train("run", "--epochs 1 -b 1 --nproc-per-node 2");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(read_file(runs / "run/report.html"), "What it finds"));
}

TEST_CASE("sgtrain: of detection, an ImageNet checkpoint begins a run, GPUs are refused") {
  const Runs runs;
  const auto model = nano();
  save_as_checkpoint(*model, runs / "nano.safetensors");
  const Ran ran = runs.train(
      "run", "--epochs 1 --max-steps 1 --initial-checkpoint " + runs("nano.safetensors"));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out + ran.err, "of a classifier: the backbone's alone"));
}
