#include "tasks/detection.h"

#include <fmt/format.h>

#include "core/cpu/parallel.h"
#include "data/coco_folder.h"
#include "nn/optim/optimizer.h"
#include "sgformer/detect/config.h"
#include "tests/dist/ranks.h"
#include "tests/support/coco_scenes.h"

using namespace sg;
using test::contains;
namespace fs = std::filesystem;

namespace {

const tasks::Task::Progress kGoOn = [](auto, auto, const auto&) { return true; };

std::unique_ptr<sgformer::Detector> nano() {
  auto model =
      std::make_unique<sgformer::Detector>(sgformer::find_detector_config("sgformer_nano", 2));
  model->parameters().allocate();
  model->parameters().initialize(7);
  return model;
}

tasks::DetectionSettings settings(dist::Group& group = dist::alone()) {
  tasks::DetectionSettings s;
  s.evaluation.detector.scale = {96, 64};
  // An untrained model has no score above the published threshold.
  s.evaluation.detector.detect.detections.score_threshold = 0.01;
  s.evaluation.workers = 1, s.evaluation.group = &group;
  s.batches.transform.scale = {96, 64};
  s.batches.batch_size = 2, s.batches.workers = 1, s.batches.seed = 5;
  s.batches.rank = group.rank(), s.batches.ranks = group.ranks();
  s.schedule = {.epochs = {8, 11}, .lr = 1e-3, .warmup = {3, 0.1}};
  return s;
}

std::shared_ptr<const data::CocoDataset> open(const fs::path& dir, const char* split) {
  return data::open_coco_folder(dir.string(), split, split == std::string("train"));
}

// Runs `program` in each of so many processes, of one thread.
void run_ranks(int ranks, const std::function<void(dist::Group&)>& program) {
  const auto of_rank = [&](dist::Group& group) {
    set_num_threads(1);
    program(group);
  };
  if (ranks > 1) return test::check_all_well(test::Ranks(ranks, test::kPatient, of_rank).wait());
  const pid_t child = test::start_child([&] {
    of_rank(dist::alone());
    return 0;
  });
  CHECK(test::wait_for(child) == 0);
}

}  // namespace

TEST_CASE("detection: losses with named parts, that fall") {
  const test::TemporaryFolder dir;
  test::put_coco_scenes(dir.path(), "train", {.count = 4});
  test::put_coco_scenes(dir.path(), "val", {.count = 2});
  const auto model = nano();
  tasks::Detection task(*model, open(dir.path(), "train"), open(dir.path(), "val"), settings());
  CHECK(task.loss_parts() == std::vector<std::string>{"rpn_cls", "rpn_box", "cls", "box", "mask"});
  const auto schedule = std::get<MilestoneSchedule>(*task.schedule(0));
  CHECK(schedule.milestones == std::vector<int64_t>{8 * task.batches(), 11 * task.batches()});

  nn::Optimizer optimizer(model->parameters(), {});
  double first = 0, last = 0;
  int64_t step = 0;
  for (int64_t epoch = 0; epoch < 10; ++epoch) {
    task.start_epoch(epoch, 0);
    for (int64_t b = 0; b < task.batches(); ++b, ++step) {
      const tasks::Batch batch = task.load_batch({step, 0});
      CHECK(batch.any_shape);
      const tasks::Losses l = task.losses(batch);
      double sum = 0;
      for (const Tensor& part : l.parts) sum += part.item();
      CHECK(l.total.detach().item() == doctest::Approx(sum).epsilon(1e-5));
      (step == 0 ? first : last) = sum;
      model->parameters().clear_grads();
      autograd::backward(l.total);
      model->parameters().zero_unreached_grads();
      optimizer.prepare(1e-3);
      optimizer.update({});
      CHECK(optimizer.finish().applied);
    }
  }
  CHECK(last < 0.8 * first);
  CHECK(task.evaluate(kGoOn)->finite());
  const Findings f = task.findings();
  REQUIRE(f.tables.size() == 1);
  CHECK(f.tables[0].rows.size() == 2);
  CHECK(f.tables[0].rows[0][1] == "2");  // squares of the validation set
  REQUIRE(f.galleries.size() == 1);
  CHECK(f.galleries[0].items.size() == 2);
}

TEST_CASE("detection: evaluation by any number of ranks gives the same bits") {
  const test::TemporaryFolder dir;
  test::put_coco_scenes(dir.path(), "val", {.count = 5});
  test::put(dir / "val/003.png", "no image");
  const auto program = [&](dist::Group& group) {
    const auto model = nano();
    tasks::DetectionEvaluation s = settings(group).evaluation;
    s.max_broken_share = 0.5;
    tasks::DetectionEvaluator evaluate(*model, open(dir.path(), "val"), s);
    const auto scores = evaluate(kGoOn);
    check(bool(scores), "given up");
    std::string text = fmt::format("{} {}\n", evaluate.images(), evaluate.skipped());
    for (const auto* found : {&evaluate.boxes(), &evaluate.masks()})
      for (const double v : found->stats) text += fmt::format("{:a} ", v);
    for (const auto& [i, why] : evaluate.broken()) text += fmt::format("{}: {}\n", i, why);
    test::put(dir / fmt::format("{}-{}", group.ranks(), group.rank()), text);
  };
  for (const int ranks : {1, 2, 3}) run_ranks(ranks, program);
  const std::string one = read_file(dir / "1-0");
  CHECK(contains(one, "4 1\n"));
  CHECK(contains(one, "val/003.png"));
  for (const char* other : {"2-0", "2-1", "3-0", "3-1", "3-2"})
    CHECK(read_file(dir / other) == one);
}

TEST_CASE("detection: an evaluation that is given up has no scores") {
  const test::TemporaryFolder dir;
  test::put_coco_scenes(dir.path(), "val", {.count = 2});
  const auto model = nano();
  tasks::DetectionEvaluator evaluate(*model, open(dir.path(), "val"), settings().evaluation);
  CHECK(!evaluate([](auto, auto, const auto&) { return false; }));
}
