// The numbers of a run, in its folder:
//   metrics.jsonl            a row per log interval and a row per epoch
//   summary.csv              a row per epoch: epoch, train_loss, and eval_<name> of each score, for
//                            classification epoch,train_loss,eval_loss,eval_top1,eval_top5
//   events.out.tfevents.*    for TensorBoard
//   metrics.cut.jsonl        rows that were taken back
// All of them follow from the rows, so a run that goes back to a checkpoint takes back the rows
// that it will write again. Files of events that another program wrote stay.
//
// None of them ends a run: where one cannot be written, a warning says so once, and each further
// row tries again.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/scores.h"
#include "io/log_file.h"

namespace sg::report {

class RunLog {
 public:
  // Keeps the rows of an earlier process up to the place in the run where this one begins: `step`
  // steps done, and epochs before `epoch` evaluated.
  RunLog(std::filesystem::path folder, int64_t step, int64_t epoch, const ScoreSchema& scores);

  // Numbers by name; those that are not finite become null. Rows with "train_loss" are those of an
  // epoch.
  void add(nlohmann::json row);
  const std::vector<nlohmann::json>& rows() const { return rows_; }

  // Tries again what could not be written; a line "<path>: <reason>" for each file that is still
  // incomplete.
  std::vector<std::string> problems();

 private:
  void append(LogFile& file, const std::string& bytes);
  void write_summary() const;
  void try_summary();

  std::filesystem::path folder_;
  std::vector<std::string> columns_;  // of summary.csv
  std::vector<nlohmann::json> rows_;
  LogFile metrics_, events_;
  std::string summary_problem_;
  bool warned_ = false;
};

bool is_epoch_row(const nlohmann::json& row);

// Whether a metrics.jsonl of this text was written here: rows, the last one perhaps incomplete.
bool is_own_metrics(const std::string& text);
// The epoch's row of the best score, of equal ones the first; null where no epoch has one. Epochs
// that ended while steps were skipped ("skipped_in_a_row" above 0) do not count. The terminal,
// the report and the best checkpoint of a run all mean this one.
const nlohmann::json* best_row(const std::vector<nlohmann::json>& rows, const ScoreInfo& score);

}  // namespace sg::report
