#include "train/checkpoint_folder.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

namespace sg::train {
namespace fs = std::filesystem;
namespace {

constexpr const char* kLast = "last.safetensors";
constexpr const char* kBest = "best.safetensors";
constexpr const char* kGood = "good.safetensors";

struct Candidate {
  fs::path path;
  int64_t step = 0, serial = 0;
  std::optional<double> metric;  // of an epoch
  int64_t skipped = 0;           // steps in a row before it was saved
};

// The state's entry `key` as T, or `otherwise` where it is absent or no number.
template <class T>
T number_or(const nlohmann::json& state, const char* key, T otherwise) {
  const auto found = state.find(key);
  if (found == state.end()) return otherwise;
  if (std::is_integral_v<T> ? !found->is_number_integer() : !found->is_number()) return otherwise;
  return found->get<T>();
}

// The least for an epoch that has none; no metric for what was saved within an epoch.
std::optional<double> metric_of(const nlohmann::json& state, const fs::path& path) {
  const double metric = number_or<double>(state, "metric", NAN);
  if (!std::isnan(metric)) return metric;
  return path.filename().string().starts_with("checkpoint-") ? std::optional(-INFINITY)
                                                             : std::nullopt;
}

bool is_link(const fs::path& path) {
  return path.filename() == kLast || path.filename() == kBest || path.filename() == kGood;
}

// 12 of "checkpoint-0012.safetensors" for "checkpoint-" and 4 digits or more.
std::optional<int64_t> number_in(const fs::path& path, std::string_view prefix, size_t digits) {
  const std::string name = path.stem().string();
  if (path.extension() != ".safetensors" || !name.starts_with(prefix)) return {};
  const std::string_view number = std::string_view(name).substr(prefix.size());
  int64_t value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  const bool whole = error == std::errc() && end == number.data() + number.size() && value >= 0;
  return whole && number.size() >= digits ? std::optional(value) : std::nullopt;
}
std::optional<int64_t> epoch_in(const fs::path& path) { return number_in(path, "checkpoint-", 4); }
std::optional<int64_t> step_in(const fs::path& path) { return number_in(path, "recovery-", 8); }

// A name that CheckpointFolder gives; other files in the folder are none of its business.
bool is_ours(const fs::path& path) { return is_link(path) || epoch_in(path) || step_in(path); }

// False for a copy that somebody made under the name of another epoch or step.
bool fits_name(const fs::path& path, const nlohmann::json& state) {
  if (const auto epoch = epoch_in(path)) return *epoch == number_or<int64_t>(state, "epoch", -1);
  if (const auto step = step_in(path)) return *step == number_or<int64_t>(state, "step", -1);
  return true;
}

std::vector<fs::path> our_names(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (const auto& item : fs::directory_iterator(folder, error))
    if (is_ours(item.path())) paths.push_back(item.path());
  return paths;
}

bool is_written_by_a_run(const fs::path& path) {
  try {
    return fits_name(path, checkpoint_state(path));
  } catch (const Error&) {
    return false;
  }
}

// Renames it to "<name>.old1", or the next that is free.
void move_aside(const fs::path& path, const char* why) {
  fs::path aside;
  std::error_code error;
  int n = 1;
  do aside = fmt::format("{}.old{}", path.string(), n++);
  while (fs::exists(fs::symlink_status(aside, error)));
  fs::rename(path, aside, error);
  if (error)
    fail(ExitCode::checkpoint, "{}: {}, and cannot be renamed: {}", path.string(), why,
         error.message());
  spdlog::warn("{}: {}; it is {} now", path.string(), why, aside.filename().string());
}

// What no run wrote, and what is damaged, is not lost where a checkpoint takes its name.
void keep_aside(const fs::path& path) {
  std::error_code absent;
  if (!fs::exists(fs::symlink_status(path, absent)) || is_written_by_a_run(path)) return;
  move_aside(path, "is no whole checkpoint of this name");
}

// All checkpoints of the folder whose header is whole, newest first. Two names of one file count
// once; each damaged file is warned of and counted.
std::vector<Candidate> scan(const fs::path& folder, size_t* damaged = nullptr) {
  std::vector<fs::path> paths = our_names(folder);
  std::error_code error;
  std::ranges::sort(paths, {}, [](const fs::path& p) { return std::pair(is_link(p), p); });

  std::vector<Candidate> result;
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto same = [&](const fs::path& p) { return fs::equivalent(p, paths[i], error); };
    if (std::any_of(paths.begin(), paths.begin() + int64_t(i), same)) continue;
    try {
      const nlohmann::json state = checkpoint_state(paths[i]);
      if (!fits_name(paths[i], state)) continue;
      result.push_back({.path = paths[i],
                        .step = state["step"].get<int64_t>(),
                        .serial = number_or<int64_t>(state, "serial", 0),
                        .metric = metric_of(state, paths[i]),
                        .skipped = number_or<int64_t>(state, "skipped_in_a_row", 0)});
    } catch (const Error& e) {
      spdlog::warn("{}", e.what());
      if (damaged) ++*damaged;
    }
  }
  std::ranges::stable_sort(result, std::greater(), &Candidate::serial);
  return result;
}

bool is_same_save(const Candidate& a, const Candidate& b) {
  return a.serial == b.serial && a.step == b.step;
}

// Where the file system has no hard links, last, best and good are copies: each save once, under
// its own name where that is there.
std::vector<Candidate> scan_saves(const fs::path& folder) {
  std::vector<Candidate> result;
  for (Candidate& c : scan(folder)) {
    const auto same = [&](const Candidate& other) { return is_same_save(c, other); };
    if (!is_link(c.path) || std::ranges::none_of(result, same)) result.push_back(std::move(c));
  }
  return result;
}

void link(const fs::path& existing, const fs::path& path) {
  std::error_code absent;
  if (existing == path || fs::equivalent(existing, path, absent)) return;
  keep_aside(path);
  replace_with_link(existing, path, ExitCode::checkpoint);
}

}  // namespace

CheckpointFolder::CheckpointFolder(fs::path folder, int history)
    : folder_(std::move(folder)), history_(size_t(std::max(history, 1))), lock_(folder_) {
  std::vector<fs::path> unfinished;
  for (const auto& item : fs::directory_iterator(folder_))
    if (is_ours(AtomicFile::unfinished_of(item.path().filename().string())))
      unfinished.push_back(item.path());
  for (const fs::path& path : unfinished) fs::remove(path);
  const std::vector<Candidate> found = scan(folder_);
  first_serial_ = serial_ = found.empty() ? 1 : found[0].serial + 1;
}

void CheckpointFolder::save_as(const std::string& name, Checkpoint checkpoint,
                               std::optional<double> metric) {
  checkpoint.state["serial"] = serial_++;
  checkpoint.state["metric"] = metric ? nlohmann::json(*metric) : nlohmann::json();
  keep_aside(folder_ / name);
  save_checkpoint(folder_ / name, checkpoint);
  update_links_and_prune();
}

void CheckpointFolder::save(Checkpoint checkpoint, std::optional<double> metric) {
  const auto epoch = checkpoint.state.at("epoch").get<int64_t>();
  save_as(fmt::format("checkpoint-{:04}.safetensors", epoch), std::move(checkpoint), metric);
}

void CheckpointFolder::save_recovery(Checkpoint checkpoint) {
  const auto step = checkpoint.state.at("step").get<int64_t>();
  save_as(fmt::format("recovery-{:08}.safetensors", step), std::move(checkpoint), {});
}

void CheckpointFolder::update_links_and_prune() const {
  const std::vector<Candidate> found = scan_saves(folder_);
  if (found.empty()) return;
  const auto last = std::ranges::find(found, 0, &Candidate::skipped);
  link(last == found.end() ? found[0].path : last->path, folder_ / kLast);

  // A run that went back to an older checkpoint gave up the epochs after it: they are not ranked,
  // and stay until it saves an epoch of the same number.
  std::set<fs::path> kept{folder_ / kLast, folder_ / kBest, folder_ / kGood};
  std::vector<Candidate> ranked;  // by metric; of equal ones the first is better
  for (const Candidate& c : found) {
    if (c.metric && c.step <= found[0].step) ranked.push_back(c);
    if (c.metric && c.step > found[0].step) kept.insert(c.path);
  }
  std::ranges::sort(ranked, {}, [](const Candidate& c) { return std::pair(-*c.metric, c.step); });
  if (!ranked.empty()) link(ranked[0].path, folder_ / kBest);

  for (size_t i = 0; i < std::min<size_t>(found.size(), 2); ++i) kept.insert(found[i].path);
  for (size_t i = 0; i < std::min(ranked.size(), history_); ++i) kept.insert(ranked[i].path);
  for (const Candidate& c : found)
    if (!kept.contains(c.path)) remove(c.path);
}

void CheckpointFolder::remove(const fs::path& path) const {
  std::error_code error;
  if (!fs::remove(path, error) && error)
    spdlog::warn("{}: cannot be removed: {}", path.string(), error.message());
}

void CheckpointFolder::prove(int64_t step) {
  const std::vector<Candidate> found = scan_saves(folder_);
  if (!found.empty() && found[0].step == step) link(found[0].path, folder_ / kGood);
}

std::optional<Resumable> CheckpointFolder::fall_back(
    const std::function<bool(const Checkpoint&)>& gives_finite_losses) {
  const std::vector<Candidate> all = scan(folder_), found = scan_saves(folder_);
  std::error_code absent;
  const auto is = [&](const Candidate& c, const char* name) {
    return fs::equivalent(c.path, folder_ / name, absent) ||
           std::ranges::any_of(all, [&](const Candidate& other) {
             return other.path == folder_ / name && is_same_save(other, c);
           });
  };
  std::optional<Resumable> good;
  const auto load = [&](const Candidate& c, bool proven) {
    try {
      Resumable r{folder_ / kGood, load_checkpoint(c.path)};
      if (!proven && !gives_finite_losses(r.checkpoint)) return false;
      good = std::move(r);
    } catch (const Error& e) {
      spdlog::warn("{}", e.what());
    }
    return good.has_value();
  };
  auto at = std::ranges::find_if(found, [&](const Candidate& c) { return is(c, kGood); });
  if (at != found.end() && !load(*at, true)) at = found.end();
  if (at == found.end())
    at = std::ranges::find_if(
        found, [&](const Candidate& c) { return c.serial < first_serial_ && load(c, false); });
  if (good) link(at->path, folder_ / kGood);
  for (auto c = found.begin(); c != at; ++c) {
    const bool stays = c->serial < first_serial_ || is(*c, kBest);
    if (stays && !good) continue;
    for (const char* name : {kLast, kBest})
      if (is(*c, name) && c->path != folder_ / name) remove(folder_ / name);
    stays ? move_aside(c->path, "is newer than the good one, and not known to be good")
          : remove(c->path);
  }
  update_links_and_prune();
  return good;
}

bool holds_checkpoint(const fs::path& folder) {
  return std::ranges::any_of(our_names(folder), is_written_by_a_run);
}

std::vector<fs::path> foreign_checkpoints(const fs::path& folder) {
  std::vector<fs::path> foreign;
  for (const fs::path& path : our_names(folder)) try {
      if (!is_checkpoint(Safetensors::open(path))) foreign.push_back(path);
    } catch (const Error&) {
      // No whole header: a damaged checkpoint, or something that keep_aside() keeps.
    }
  return foreign;
}

std::string first_not_finite(const Checkpoint& checkpoint) {
  for (const std::string_view prefix : {std::string_view(), kMoment1, kMoment2})
    if (const std::string name = first_not_finite(part(checkpoint.tensors, prefix)); !name.empty())
      return std::string(prefix) + name;
  return "";
}

std::optional<Resumable> find_resumable(const fs::path& folder) {
  size_t damaged = 0;
  for (const Candidate& c : scan(folder, &damaged)) {
    try {
      Resumable result{c.path, load_checkpoint(c.path)};
      if (const std::string name = first_not_finite(result.checkpoint); !name.empty())
        fail(ExitCode::nonfinite, "{}: not good: tensor '{}' holds values that are not finite",
             c.path.string(), name);
      if (damaged) spdlog::warn("resuming from {}, step {}, instead", c.path.string(), c.step);
      return result;
    } catch (const Error& e) {
      spdlog::warn("{}", e.what());
      ++damaged;
    }
  }
  if (damaged)
    fail(ExitCode::checkpoint,
         "{}: all {} checkpoints are damaged or not good; restore one, or start anew with another "
         "--output",
         folder.string(), damaged);
  return {};
}

}  // namespace sg::train
