#include "report/run_log.h"

#include <doctest/doctest.h>

#include "report/tensorboard.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

namespace {

const ScoreSchema kScores{{.name = "top1", .label = "Acc@1", .title = "top-1"},
                          {.name = "top5", .label = "Acc@5", .title = "top-5"},
                          {.name = "loss", .label = "loss", .title = "validation loss"}};

std::string events(const TemporaryFolder& folder) {
  std::string all;
  int files = 0;
  for (const auto& item : std::filesystem::directory_iterator(folder.path()))
    if (contains(item.path().filename(), "events.out.tfevents."))
      all += read_file(item.path()), ++files;
  CHECK(files == 1);
  return all;
}

}  // namespace

TEST_CASE("run log: a run that goes back takes back what it will write again") {
  const TemporaryFolder folder;
  {
    report::RunLog log(folder.path(), 0, 0, kScores);
    for (int step = 1; step <= 4; ++step) {
      log.add({{"epoch", (step - 1) / 2}, {"step", step}, {"loss", 1.0 / step}});
      if (step % 2 == 0)
        log.add({{"epoch", step / 2 - 1},
                 {"step", step},
                 {"train_loss", 0.5},
                 {"eval_loss", 0.25},
                 {"eval_top1", 50.0},
                 {"eval_top5", 99.5}});
    }
    CHECK(read_file(folder / "summary.csv") ==
          "epoch,train_loss,eval_loss,eval_top1,eval_top5\n0,0.5,0.25,50.0,99.5\n"
          "1,0.5,0.25,50.0,99.5\n");
  }
  // A process that was killed while it wrote a row.
  put(folder / "metrics.jsonl", read_file(folder / "metrics.jsonl") + "{\"epoch\":2,\"st");

  report::RunLog log(folder.path(), 3, 1, kScores);
  CHECK(log.rows().size() == 4);  // three steps and one epoch
  CHECK(log.rows().back()["step"] == 3);
  CHECK(read_file(folder / "summary.csv") ==
        "epoch,train_loss,eval_loss,eval_top1,eval_top5\n0,0.5,0.25,50.0,99.5\n");
  CHECK(contains(events(folder),
                 report::tensorboard_record(log.rows().back()["time"], 3,
                                            {{"step/epoch", 1}, {"step/loss", 1.0 / 3}})));

  // The same epoch evaluated, its checkpoint not yet: the steps stay, the epoch's row goes.
  CHECK(report::RunLog(folder.path(), 3, 0, kScores).rows().size() == 3);
}

TEST_CASE("run log: numbers that are not finite are written as null and read back as missing") {
  const TemporaryFolder folder;
  report::RunLog(folder.path(), 0, 0, kScores).add({{"epoch", 0}, {"step", 1}, {"loss", NAN}});
  CHECK(contains(read_file(folder / "metrics.jsonl"), "\"loss\":null"));
  CHECK(report::RunLog(folder.path(), 9, 9, kScores).rows().size() == 1);
}

TEST_CASE("run log: the columns of an epoch are the scores of the task, the loss first") {
  const TemporaryFolder folder;
  report::RunLog log(folder.path(), 0, 0,
                     {{.name = "error", .label = "error", .title = "error"},
                      {.name = "loss", .label = "loss", .title = "validation loss"}});
  log.add({{"epoch", 0}, {"step", 1}, {"train_loss", 2.0}, {"eval_error", 0.5}});
  CHECK(read_file(folder / "summary.csv") == "epoch,train_loss,eval_loss,eval_error\n0,2.0,,0.5\n");
  CHECK(contains(events(folder), "eval/error"));
}

TEST_CASE("run log: no number where there is none, and the first of the best epochs") {
  const TemporaryFolder folder;
  report::RunLog log(folder.path(), 0, 0, kScores);
  CHECK(report::best_row(log.rows(), kScores[0]) == nullptr);
  const auto add = [&](int epoch, double top1, int skipped) {
    log.add({{"epoch", epoch},
             {"step", epoch},
             {"train_loss", epoch ? 1.5 : -NAN},
             {"skipped_in_a_row", skipped},
             {"eval_loss", INFINITY},
             {"eval_top1", top1}});
  };
  add(0, NAN, 0), add(1, 90, 3);  // the second ended while steps were skipped
  CHECK(report::best_row(log.rows(), kScores[0]) == nullptr);
  add(2, 50, 0), add(3, 70, 0), add(4, 70, 0), add(5, 60, 0);
  CHECK((*report::best_row(log.rows(), kScores[0]))["epoch"] == 3);
  CHECK(contains(read_file(folder / "summary.csv"), "\n0,,,,\n1,1.5,,90.0,\n"));
  // Rows read again, and those of an older version, mean the same.
  put(folder / "metrics.jsonl",
      "{\"epoch\":7,\"step\":7,\"time\":1,\"train_loss\":1,\"eval_top1\":80}\n" +
          read_file(folder / "metrics.jsonl"));
  const report::RunLog again(folder.path(), 9, 9, kScores);
  CHECK((*report::best_row(again.rows(), kScores[0]))["epoch"] == 7);
}
