// sgtrain --task segmentation, from a folder of images to a report.
#include <doctest/doctest.h>

#include <cmath>
#include <sstream>

#include "tests/support/scenes.h"
#include "tests/tools/runs.h"

using namespace sg;
using namespace sg::test;

namespace {

struct Runs : TemporaryFolder {
  Runs() {
    put_scenes(*this / "data", "train", 6);
    put_scenes(*this / "data", "val", 2);
  }
  std::filesystem::path operator()(const std::string& name) const { return *this / name; }
  // Evaluated at steps 3 and 5.
  Ran train(const std::string& name, const std::string& more = "") const {
    return run_program(fmt::format(
        "sgtrain --task segmentation --model sgformer_nano --data {} --output {} "
        "--img-size 32 -b 2 --steps 5 --eval-interval 2 --warmup-steps 2 --device cpu --threads 1 "
        "--workers 1 --log-interval 1 {}",
        (*this)("data").string(), (*this)(name).string(), more));
  }
};

void check_resumed_run(const std::string& head, const std::string& dtype) {
  CAPTURE(head);
  CAPTURE(dtype);
  const Runs runs;
  const std::string flags = fmt::format("--head {} --dtype {} ", head, dtype);
  const Ran whole = runs.train("whole", flags);
  REQUIRE_MESSAGE(whole.code == 0, whole.err);
  CHECK(contains(whole.err + whole.out, "evaluated by resized into (128, 32)"));
  CHECK(contains(whole.err + whole.out, "values in 6 of 6 label images: 0 (sky)"));
  CHECK(!contains(whole.err + whole.out, "warning: --warmup-steps"));
  const Ran begun = runs.train("part", flags + "--max-steps 2");
  REQUIRE_MESSAGE(begun.code == 0, begun.err);
  const Ran resumed = runs.train("part", flags + "--resume auto");
  REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
  CHECK(last_tensors(runs("part")) == last_tensors(runs("whole")));

  const std::string page = read_file(runs("whole") / "report.html");
  for (const char* shown : {"What it learns from", "Where it looks", "IoU by class", "Confusion",
                            "Worst images", "mIoU is the mean over the classes"})
    CHECK_MESSAGE(contains(page, shown), shown);

  // Without other flags sgeval sees the images as the run did, and has its score.
  const Ran ran =
      run_program(fmt::format("sgeval --json --device cpu --dtype {} --data {} --checkpoint {}",
                              dtype, runs("data").string(), runs("whole").string()));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  double score = NAN;
  std::istringstream rows(read_file(runs("whole") / "metrics.jsonl"));
  for (std::string line; std::getline(rows, line);)
    if (const auto row = nlohmann::json::parse(line); row.contains("eval_mIoU"))
      score = std::fmax(score, row["eval_mIoU"].get<double>());
  CHECK(ran.json()["mIoU"].get<double>() == doctest::Approx(score).epsilon(1e-9));
}

}  // namespace

TEST_CASE("sgtrain: of segmentation, a run that is ended and resumed is one that never was") {
  check_resumed_run("upernet", "f32");
  if (have_cpu_bf16()) check_resumed_run("semantic_fpn", "bf16");
}

TEST_CASE("sgtrain: of segmentation, a warm-up that outlasts the run is told") {
  const Runs runs;
  const Ran ran = runs.train("run", "--warmup-steps 5 --dry-run");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.err + ran.out, "warning: --warmup-steps 5: a run of 5 steps ends before"));
}

TEST_CASE("sgtrain: of segmentation, flags that mean nothing to the task are refused") {
  const Runs runs;
  CHECK(runs.train("run", "--scale 0.5 1").code == 2);
  const Ran epochs = runs.train("run", "--epochs 5");
  CHECK(epochs.code == 2);
  CHECK(contains(epochs.err, "--epochs: of --task classification"));
  CHECK(!std::filesystem::exists(runs("run")));
}
