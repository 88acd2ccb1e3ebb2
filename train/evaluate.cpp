#include "train/evaluate.h"

#include <fmt/format.h>

#include <algorithm>

#include "train/signals.h"

namespace sg::train {

std::string progress_bar(double share) {
  constexpr int kWidth = 24;
  std::string text;
  for (int i = 0; i < kWidth; ++i) text += i < int(share * kWidth + 0.5) ? "━" : "╌";
  return text;
}

std::string place_of(int64_t i, int64_t n) {
  return fmt::format("[{:>{}}/{} ({:3.0f}%)]", i, fmt::formatted_size("{}", n), n,
                     100.0 * double(i) / double(std::max<int64_t>(n - 1, 1)));
}

std::optional<tasks::Scores> evaluate_with_progress(const std::string& title,
                                                    const Evaluate& evaluate,
                                                    const ScoreSchema& schema, int64_t interval,
                                                    report::Console& console) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  return evaluate([&](int64_t done, int64_t total, const tasks::Scores& so_far) {
    const double share = double(done) / double(total);
    console.bar(fmt::format(" {} {} {:3.0f}%  {}", title, progress_bar(share), 100 * share,
                            describe(schema, so_far)));
    if ((done - 1) % interval == 0 || done == total) {
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      console.detail(fmt::format("{}: {} Time: {:.3f}s {}", title, place_of(done - 1, total),
                                 seconds / double(done), describe(schema, so_far)));
    }
    return stop_signal() == 0;
  });
}

}  // namespace sg::train
