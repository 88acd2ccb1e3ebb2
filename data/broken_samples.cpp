#include "data/broken_samples.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "core/error.h"

namespace sg::data {

int64_t allowed_broken(double max_broken_share, int64_t samples) {
  const int64_t few = max_broken_share > 0 ? std::min(kFewBroken, samples / 2) : 0;
  return std::max(int64_t(max_broken_share * double(samples)), few);
}

void BrokenSamples::add(int64_t sample, const std::string& message) {
  messages_.emplace(sample, message);
  if (logged_.insert(sample).second)
    spdlog::warn("skipped, {} so far: {}", messages_.size(), message);
}

void BrokenSamples::check() const {
  const int64_t allowed = allowed_broken(max_share_, samples_);
  if (int64_t(messages_.size()) <= allowed) return;
  std::string list;
  int shown = 0;
  for (const auto& [sample, message] : messages_) {
    if (++shown > 20) {
      list += fmt::format("\n  and {} more", messages_.size() - 20);
      break;
    }
    list += "\n  " + message;
  }
  fail(
      ExitCode::data,
      "{} of {} images are broken, {} are allowed (--max-broken-share {}):{}\nmend or remove them; "
      "a larger share lets a run go on",
      messages_.size(), samples_, allowed, max_share_, list);
}

}  // namespace sg::data
