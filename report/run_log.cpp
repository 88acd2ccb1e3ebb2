#include "report/run_log.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <sstream>

#include "io/file.h"
#include "report/tensorboard.h"

namespace sg::report {
namespace fs = std::filesystem;
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::vector<nlohmann::json> read_rows(const fs::path& path) {
  std::vector<nlohmann::json> rows;
  std::error_code absent;
  if (!fs::exists(path, absent)) return rows;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    // The last line of a process that was killed may be half a row.
    nlohmann::json row = nlohmann::json::parse(line, nullptr, false);
    const auto is_number = [&](const char* key) {
      return row.contains(key) && row[key].is_number();
    };
    if (row.is_object() && is_number("step") && is_number("epoch") && is_number("time"))
      rows.push_back(std::move(row));
  }
  return rows;
}

// TensorBoard groups by what is before the slash: eval_model_top1 -> eval_model/top1.
std::string tag_of(const std::string& key) {
  for (std::string_view group : {"eval_model_", "eval_", "train_"})
    if (key.starts_with(group))
      return fmt::format("{}/{}", group.substr(0, group.size() - 1), key.substr(group.size()));
  return "step/" + key;
}

std::string event_of(const nlohmann::json& row) {
  Scalars values;
  for (const auto& [key, value] : row.items())
    if (value.is_number() && key != "step" && key != "time")
      values.emplace_back(tag_of(key), value.get<double>());
  return tensorboard_record(row["time"].get<double>(), row["step"].get<int64_t>(), values);
}

std::string host() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name[0] ? name : "localhost";
}

}  // namespace

bool is_epoch_row(const nlohmann::json& row) { return row.contains("train_loss"); }

const nlohmann::json* best_row(const std::vector<nlohmann::json>& rows, const ScoreInfo& score) {
  const nlohmann::json* best = nullptr;
  const std::string key = "eval_" + score.name;
  for (const nlohmann::json& row : rows) {
    if (!is_epoch_row(row) || !row.contains(key) || !row[key].is_number()) continue;
    if (const auto skipped = row.find("skipped_in_a_row"); skipped != row.end() && *skipped > 0)
      continue;
    if (!best || improves(score, row[key].get<double>(), (*best)[key].get<double>())) best = &row;
  }
  return best;
}

RunLog::RunLog(fs::path folder, int64_t step, int64_t epoch, const ScoreSchema& scores)
    : folder_(std::move(folder)), columns_{"epoch", "train_loss"} {
  for (const ScoreInfo& s : columns(scores)) columns_.push_back("eval_" + s.name);
  const fs::path metrics = folder_ / "metrics.jsonl";
  std::string text;
  for (nlohmann::json& row : read_rows(metrics)) {
    if (row["step"] > step || (is_epoch_row(row) && row["epoch"] >= epoch)) continue;
    text += row.dump() + "\n";
    rows_.push_back(std::move(row));
  }
  write_file(metrics, text);
  metrics_ = open(metrics);
  write_summary();

  std::vector<fs::path> old;
  for (const auto& item : fs::directory_iterator(folder_))
    if (item.path().filename().string().starts_with("events.out.tfevents.")) old.push_back(item);
  for (const fs::path& path : old) fs::remove(path);
  events_ = open(folder_ / fmt::format("events.out.tfevents.{}.{}", int64_t(now()), host()));
  append(events_, tensorboard_header(now()));
  for (const nlohmann::json& row : rows_) append(events_, event_of(row));
}

RunLog::File RunLog::open(const fs::path& path) const {
  File file(std::fopen(path.c_str(), "ae"));
  if (!file)
    fail(ExitCode::failure, "{}: cannot be written: {}", path.string(), std::strerror(errno));
  return file;
}

// A full disk must not end the run here: the checkpoint decides.
void RunLog::append(const File& file, const std::string& bytes) {
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size() &&
                       std::fflush(file.get()) == 0;
  if (!written && !warned_) {
    spdlog::warn("{}: rows of metrics are lost: {}", folder_.string(), std::strerror(errno));
    warned_ = true;
  }
}

void RunLog::add(nlohmann::json row) {
  row["time"] = now();
  for (nlohmann::json& value : row)
    if (value.is_number_float() && !std::isfinite(value.get<double>())) value = nullptr;
  append(metrics_, row.dump() + "\n");
  append(events_, event_of(row));
  rows_.push_back(std::move(row));
  if (!is_epoch_row(rows_.back())) return;
  try {
    write_summary();
  } catch (const Error& e) {
    spdlog::warn("{}", e.what());
  }
}

void RunLog::write_summary() const {
  std::string text = fmt::format("{}\n", fmt::join(columns_, ","));
  for (const nlohmann::json& row : rows_) {
    if (!is_epoch_row(row)) continue;
    std::vector<std::string> values;
    for (const std::string& key : columns_)
      values.push_back(row.contains(key) && !row[key].is_null() ? row[key].dump() : "");
    text += fmt::format("{}\n", fmt::join(values, ","));
  }
  write_file(folder_ / "summary.csv", text);
}

}  // namespace sg::report
