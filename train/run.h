// A whole training run: data, model, task, trainer, and the folder that it writes.
#pragma once
#include "train/options.h"

namespace sg::train {

// ExitCode::ok, or ExitCode::interrupted after a signal; other ends are Errors.
ExitCode run(Options options);

}  // namespace sg::train
