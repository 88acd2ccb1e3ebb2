// The flags of a training run, and those of files of such flags.
#pragma once
#include "tools/common/cli.h"
#include "train/options.h"

namespace sg::tools {

// The defaults of the model that is asked for, then --config FILE.json, then the flags.
train::Options parse_train_options(CLI::App& app, int argc, char** argv);

}  // namespace sg::tools
