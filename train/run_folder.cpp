#include "train/run_folder.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <ctime>
#include <string>
#include <vector>

#include "core/text.h"
#include "io/file.h"
#include "io/json.h"
#include "report/report.h"
#include "report/run_log.h"
#include "train/checkpoint_folder.h"

namespace sg::train {
namespace fs = std::filesystem;
namespace {

// The version that wrote it, and options of this program alone.
bool is_own_args(const std::string& text) {
  try {
    const nlohmann::json args = parse_json(text, "args.json", ExitCode::usage);
    if (!args.is_object() || !args.contains("model") || !args.contains("data")) return false;
    if (!args.contains("version") || !args["version"].is_string()) return false;
    Options options;
    apply_json(options, args, "args.json");
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Lines that begin "2026-01-31 12:00:00 ".
bool is_own_log(const std::string& text) {
  constexpr std::string_view kStamp = "dddd-dd-dd dd:dd:dd ";
  const auto fits = [](char pattern, char c) {
    return pattern == 'd' ? c >= '0' && c <= '9' : c == pattern;
  };
  const size_t n = std::min(text.size(), kStamp.size());
  return std::equal(kStamp.begin(), kStamp.begin() + n, text.begin(), fits);
}

bool is_own_summary(const std::string& text) {
  return text.empty() || text.starts_with("epoch,train_loss");
}

struct RunFile {
  const char* name;
  bool (*is_own)(const std::string& text);
};
constexpr RunFile kFiles[] = {
    {"args.json", is_own_args},
    {"train.log", is_own_log},
    {"metrics.jsonl", report::is_own_metrics},
    {"metrics.cut.jsonl", report::is_own_metrics},
    {"summary.csv", is_own_summary},
    {"report.html", [](const std::string& t) { return t.empty() || report::is_own_report(t); }},
};

bool is_own(const fs::path& path, bool (*is_own_text)(const std::string&)) {
  return fs::is_regular_file(path) && is_own_text(read_file(path));
}

}  // namespace

bool names_folder(const Options& o) { return !o.output.empty() || !o.experiment.empty(); }

fs::path run_folder(const Options& o) {
  const fs::path output = o.output.empty() ? "output/train" : o.output;
  return o.experiment.empty() ? output : output / o.experiment;
}

fs::path new_folder(const Options& o) {
  return fs::path("output/train") / fmt::format("{:%Y%m%d-%H%M%S}-{}-{}",
                                                fmt::localtime(std::time(nullptr)), o.model,
                                                str(*o.img_size));
}

void check_files_in_the_way(const fs::path& folder) {
  std::error_code absent;
  const fs::path args = folder / "args.json", checkpoints = folder / kCheckpoints;
  const bool is_run =
      (fs::exists(args, absent) && is_own(args, is_own_args)) || holds_checkpoint(checkpoints);
  std::vector<std::string> in_the_way;
  for (const auto& [name, is_own_text] : kFiles)
    if (fs::exists(fs::symlink_status(folder / name, absent)) &&
        !(is_run && is_own(folder / name, is_own_text)))
      in_the_way.push_back(name);
  if (fs::exists(fs::symlink_status(checkpoints, absent)) && !fs::is_directory(checkpoints, absent))
    in_the_way.push_back(kCheckpoints);
  for (const fs::path& path : foreign_checkpoints(checkpoints))
    in_the_way.push_back(fs::path(kCheckpoints) / path.filename());
  if (!in_the_way.empty())
    fail(ExitCode::usage,
         "{}: holds files that no run of sgtrain wrote, and a run would write over: {}; move them "
         "away, or choose another --output",
         folder.string(), fmt::join(in_the_way, ", "));
}

void remove_unfinished(const fs::path& folder) {
  std::vector<fs::path> unfinished;
  for (const auto& item : fs::directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    for (const RunFile& file : kFiles)
      if (AtomicFile::unfinished_of(name) == file.name) unfinished.push_back(item.path());
  }
  for (const fs::path& path : unfinished) fs::remove(path);
}

}  // namespace sg::train
