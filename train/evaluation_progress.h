// Evaluation with its progress on the screen: a bar on a terminal, or lines in a log.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "report/console.h"
#include "tasks/task.h"

namespace sg::train {

using report::progress_bar;
std::string place_of(int64_t i, int64_t n);  // "[ 450/1251 ( 36%)]", counted from 0

// Evaluates with a bar on a terminal, or a line every `interval` batches. Nothing where a signal
// asked to stop.
using Evaluate = std::function<std::optional<tasks::Scores>(const tasks::Task::Progress&)>;
std::optional<tasks::Scores> evaluate_with_progress(const std::string& title,
                                                    const Evaluate& evaluate,
                                                    const ScoreSchema& schema, int64_t interval,
                                                    report::Console& console);

}  // namespace sg::train
