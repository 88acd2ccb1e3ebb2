// A whole training run: what a Setup makes of the options, the trainer, and the folder that it
// writes.
#pragma once
#include <string>
#include <vector>

#include "train/setup.h"
#include "train/signals.h"

namespace sg::train {

// As one of the ranks that the environment tells of (dist/launch.h), or alone. ExitCode::ok, or
// ExitCode::interrupted after a signal; other ends are Errors. `command` is the command line, for
// messages that say how to go on. From the first step on, signals save first.
// `usual`: the recipe without flags, for the report.
ExitCode run(Options options, const Options& usual, Setup& setup, StopSignals& signals,
             const std::vector<std::string>& command);

}  // namespace sg::train
