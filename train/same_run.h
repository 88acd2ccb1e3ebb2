// Whether a run may go on from a checkpoint, and what of it does not count any more.
#pragma once
#include <nlohmann/json.hpp>

#include "report/console.h"
#include "train/checkpoint_folder.h"
#include "train/options.h"

namespace sg::train {

// `identity`: of the run that goes on, as its checkpoints will have it. Throws ExitCode::checkpoint
// with a table of what must be the same and is not; warns of what changes the run.
void check_same_run(const Resumable& from, const nlohmann::json& identity, const Options& options,
                    report::Console& console);

// Where the training set is not the one of the checkpoint the order of an epoch is another too. At
// the end of an epoch nothing depends on it; within one it is an error, or the epoch begins again.
void adapt_to_data(Checkpoint& checkpoint, const Options& options, int64_t images,
                   int64_t epoch_steps, report::Console& console);

}  // namespace sg::train
