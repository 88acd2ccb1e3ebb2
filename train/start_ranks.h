// --nproc-per-node: which processes the launcher starts, and how they go on after a failure; and
// which GPU each rank has.
#pragma once
#include <string>
#include <vector>

#include "dist/launch.h"
#include "dist/launcher.h"
#include "train/options.h"

namespace sg::train {

// Whether this process is to start the ranks. Throws ExitCode::usage where another launcher has
// started several, or --max-restarts is given without --nproc-per-node.
bool starts_ranks(const Options& options, const dist::Launch& launch);

// Each rank runs `command`, the whole command line; where that leaves the folder of the run to be
// named by the time, it has a name from here on. Once a checkpoint has been saved, ranks that start
// again go on from there. Throws ExitCode::usage, as validate() does, and where there are fewer
// GPUs than ranks.
dist::LauncherSettings launcher_settings(Options options, std::vector<std::string> command);

// --device of a rank: "auto" and "cuda" are a GPU of its own for each rank of a host; a single one
// is what the launcher let the rank see. Throws ExitCode::usage where there are too few.
std::string device_of_rank(const std::string& device, const dist::Launch& launch);

}  // namespace sg::train
