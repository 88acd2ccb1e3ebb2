#include "report/run_log.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <sstream>
#include <utility>

#include "io/file.h"
#include "io/json.h"
#include "report/tensorboard.h"

namespace sg::report {
namespace fs = std::filesystem;
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Nothing where the line is no row.
std::optional<nlohmann::json> parse_row(const std::string& line) try {
  nlohmann::json row = parse_json(line, "metrics.jsonl", ExitCode::data);
  const auto is_number = [&](const char* key) { return row.contains(key) && row[key].is_number(); };
  if (row.is_object() && is_number("step") && is_number("epoch") && is_number("time")) return row;
  return {};
} catch (const Error&) {
  return {};
}

std::vector<nlohmann::json> read_rows(const fs::path& path) {
  std::vector<nlohmann::json> rows;
  std::error_code absent;
  if (!fs::exists(path, absent)) return rows;
  std::istringstream lines(read_file(path));
  // The last line of a process that was killed may be half a row.
  for (std::string line; std::getline(lines, line);)
    if (auto row = parse_row(line)) rows.push_back(std::move(*row));
  return rows;
}

// Another program may have begun one in this second.
LogFile new_events(const fs::path& folder, const std::string& host) {
  std::error_code absent;
  fs::path path;
  int64_t second = int64_t(now());
  do path = folder / fmt::format("events.out.tfevents.{}.{}", second++, host);
  while (fs::exists(fs::symlink_status(path, absent)));
  return LogFile(path, LogFile::Open::create_new);
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

// Earlier versions did not name themselves in the file. Their first event is a row of ours, to the
// bit of its time.
bool is_own_unnamed(std::string_view begin, const std::vector<nlohmann::json>& rows) {
  const size_t header = unnamed_tensorboard_header(0).size();
  return begin.size() > header && std::ranges::any_of(rows, [&](const nlohmann::json& row) {
           const std::string event = event_of(row);
           return begin.substr(header, event.size()) == event;
         });
}

// `rows`: all that earlier processes of the run wrote.
void remove_own_events(const fs::path& folder, const std::vector<nlohmann::json>& rows) {
  std::vector<fs::path> old;
  for (const auto& item : fs::directory_iterator(folder))
    if (item.path().filename().string().starts_with("events.out.tfevents.") &&
        item.is_regular_file()) {
      const InputFile file(item.path());
      std::string begin(std::min<size_t>(file.size(), 4096), '\0');
      file.read(0, begin.data(), begin.size());
      if (is_own_tensorboard_file(begin) || is_own_unnamed(begin, rows)) old.push_back(item.path());
    }
  for (const fs::path& path : old) fs::remove(path);
}

std::string host() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name[0] ? name : "localhost";
}

}  // namespace

bool is_epoch_row(const nlohmann::json& row) { return row.contains("train_loss"); }

bool is_own_metrics(const std::string& text) {
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1)
    if (!parse_row(text.substr(begin, end - begin))) return false;
  return begin == text.size() || text[begin] == '{';
}

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
  std::string kept, cut;
  const std::vector<nlohmann::json> before = read_rows(metrics);
  for (const nlohmann::json& row : before) {
    const bool again = row["step"] > step || (is_epoch_row(row) && row["epoch"] >= epoch);
    (again ? cut : kept) += row.dump() + "\n";
    if (!again) rows_.push_back(row);
  }
  if (!cut.empty())
    if (LogFile file(folder_ / "metrics.cut.jsonl"); !file.append(cut))
      fail(ExitCode::failure, "{}", file.problem());
  write_file(metrics, kept);
  metrics_ = LogFile(metrics);
  write_summary();

  remove_own_events(folder_, before);
  events_ = new_events(folder_, host());
  std::string events = tensorboard_header(now());
  for (const nlohmann::json& row : rows_) events += event_of(row);
  append(events_, events);
}

void RunLog::append(LogFile& file, const std::string& bytes) {
  if (!file.append(bytes) && !std::exchange(warned_, true))
    spdlog::warn("{}; the run goes on, and tries again", file.problem());
}

void RunLog::try_summary() {
  try {
    write_summary();
    summary_problem_.clear();
  } catch (const Error& e) {
    if (!std::exchange(warned_, true))
      spdlog::warn("{}; the run goes on, and tries again", e.what());
    summary_problem_ = e.what();
  }
}

std::vector<std::string> RunLog::problems() {
  append(metrics_, "");
  append(events_, "");
  if (!summary_problem_.empty()) try_summary();
  std::vector<std::string> all{metrics_.problem(), events_.problem(), summary_problem_};
  std::erase(all, "");
  return all;
}

void RunLog::add(nlohmann::json row) {
  row["time"] = now();
  for (nlohmann::json& value : row)
    if (value.is_number_float() && !std::isfinite(value.get<double>())) value = nullptr;
  append(metrics_, row.dump() + "\n");
  append(events_, event_of(row));
  rows_.push_back(std::move(row));
  if (is_epoch_row(rows_.back())) try_summary();
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
