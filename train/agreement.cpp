#include "train/agreement.h"

#include <algorithm>

#include "dist/blame.h"
#include "dist/launcher.h"
#include "io/hash.h"

namespace sg::train {
namespace {

// Of one host or one process.
constexpr std::string_view kOwn[] = {
    "data",           "class_map",    "class_names", "no_listing_cache",
    "device",         "threads",      "workers",     "output",
    "experiment",     "resume",       "dry_run",     "initial_checkpoint",
    "nproc_per_node", "max_restarts", "log_interval"};

std::string text_of(const nlohmann::json& all, const std::string& key) {
  return all.contains(key) ? all[key].dump() : "unset";
}

}  // namespace

void check_agreement(dist::Group& group, std::string_view what, const nlohmann::json& mine) {
  const std::vector<std::string> texts = group.all_gather(what, mine.dump());
  const auto first = nlohmann::json::parse(texts[0]);
  std::string differences;
  for (size_t rank = 1; rank < texts.size(); ++rank) {
    auto theirs = nlohmann::json::parse(texts[rank]);
    nlohmann::json keys = first;
    keys.update(theirs);
    for (const auto& [key, value] : keys.items())
      if (const std::string a = text_of(first, key), b = text_of(theirs, key); a != b)
        differences +=
            fmt::format("\n  {:<22} {} on rank 0, {} on {}", key, a, b, group.name_of(int(rank)));
  }
  if (!differences.empty())
    fail(dist::is_launched() ? dist::kNotAlike : ExitCode::peer,
         "the processes of the run were not started alike: {} differs:{}\nstart all of them with "
         "the same program, flags and data",
         what, differences);
}

nlohmann::json options_to_agree_on(const Options& options) {
  nlohmann::json json = to_json(options);
  for (const std::string_view key : kOwn) json.erase(std::string(key));
  json["version"] = SG_VERSION;
  // Two builds of one version need not compute the same.
  if (options.ranks > 1) json["program"] = hex(hash_of(read_file("/proc/self/exe")));
  return json;
}

nlohmann::json listing_to_agree_on(const data::ImageSet& images) {
  Hash hash;
  for (int64_t i = 0; i < images.size(); ++i) {
    const std::string identity = images.identity(i);
    hash.add(identity.data(), identity.size() + 1);
  }
  return {{"images", images.size()}, {"names and labels", hex(hash.digest())}};
}

}  // namespace sg::train
