#include "report/run_log.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>

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

  CHECK(contains(read_file(folder / "metrics.cut.jsonl"), "\"step\":4"));
  CHECK(report::is_own_metrics(read_file(folder / "metrics.cut.jsonl")));

  // The same epoch evaluated, its checkpoint not yet: the steps stay, the epoch's row goes.
  CHECK(report::RunLog(folder.path(), 3, 0, kScores).rows().size() == 3);
}

TEST_CASE("run log: events of other programs stay") {
  const TemporaryFolder folder;
  const std::string other = "events.out.tfevents.1.host.12.0";
  put(folder / other, "of somebody");
  report::RunLog(folder.path(), 0, 0, kScores);
  report::RunLog(folder.path(), 0, 0, kScores);
  CHECK(read_file(folder / other) == "of somebody");
  std::filesystem::remove(folder / other);
  events(folder);  // one of ours
}

TEST_CASE("run log: events of earlier versions, which did not name their writer, are its own") {
  const TemporaryFolder folder;
  nlohmann::json row{{"epoch", 0}, {"step", 1}, {"loss", 0.5}};
  report::RunLog(folder.path(), 0, 0, kScores).add(row);
  row = nlohmann::json::parse(read_file(folder / "metrics.jsonl"));
  const report::Scalars values{{"step/epoch", 0}, {"step/loss", 0.5}};
  const auto file = [&](double time) {
    return report::unnamed_tensorboard_header(1) + report::tensorboard_record(time, 1, values);
  };
  const double time = row["time"];
  put(folder / "events.out.tfevents.1.old", file(time));
  put(folder / "events.out.tfevents.2.other", file(time + 1));
  report::RunLog(folder.path(), 1, 0, kScores);
  CHECK_FALSE(std::filesystem::exists(folder / "events.out.tfevents.1.old"));
  CHECK(read_file(folder / "events.out.tfevents.2.other") == file(time + 1));
}

TEST_CASE("run log: what is no metrics.jsonl of ours") {
  const std::string row = "{\"epoch\":0,\"step\":1,\"time\":1.5}\n";
  for (const std::string& text : {std::string(), row, row + row, row + "{\"ep"})
    CHECK(report::is_own_metrics(text));
  for (const std::string& text : {std::string("loss 1\n"), std::string("{\"step\":1,\"loss\":2}\n"),
                                  row + "text\n" + row, row + "text"})
    CHECK_FALSE(report::is_own_metrics(text));
}

TEST_CASE("run log: files that cannot be written do not end the run, and are told of") {
  const TemporaryFolder folder;
  report::RunLog log(folder.path(), 0, 0, kScores);
  static bool full = true;
  full = true;
  system_write = [](int fd, const void* data, size_t bytes) -> ssize_t {
    if (!full) return ::write(fd, data, bytes);
    errno = ENOSPC;
    return -1;
  };
  log.add({{"epoch", 0}, {"step", 1}, {"loss", 1.0}});
  log.add({{"epoch", 0}, {"step", 1}, {"train_loss", 0.5}});
  const auto problems = log.problems();
  REQUIRE(problems.size() == 3);
  CHECK(contains(problems[0], "metrics.jsonl: No space left on device"));
  CHECK(contains(problems[1], "events.out.tfevents."));
  CHECK(contains(problems[2], "summary.csv"));
  full = false;
  CHECK(log.problems().empty());
  system_write = ::write;
  CHECK(report::is_own_metrics(read_file(folder / "metrics.jsonl")));
  CHECK(contains(read_file(folder / "metrics.jsonl"), "\"train_loss\":0.5"));
  CHECK(contains(read_file(folder / "summary.csv"), "\n0,0.5,"));
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
