#include "train/evaluation_progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "train/signals.h"

namespace sg::train {

std::string place_of(int64_t i, int64_t n) {
  return fmt::format("[{:>{}}/{} ({:3.0f}%)]", i, fmt::formatted_size("{}", n), n,
                     100.0 * double(i) / double(std::max<int64_t>(n - 1, 1)));
}

std::optional<tasks::Scores> evaluate_with_progress(const std::string& title,
                                                    const Evaluate& evaluate,
                                                    const ScoreSchema& schema, int64_t interval,
                                                    report::Console& console) {
  const report::Progress progress;
  return evaluate([&](int64_t done, int64_t total, const tasks::Scores& so_far) {
    console.bar(progress.text(title, done, total, describe(schema, so_far)));
    if ((done - 1) % interval == 0 || done == total)
      console.detail(fmt::format("{}: {} Time: {:.3f}s {}", title, place_of(done - 1, total),
                                 progress.seconds() / double(done), describe(schema, so_far)));
    return stop_signal() == 0;
  });
}

}  // namespace sg::train
