// The folder of a run, and ownership of the files in it: a run overwrites, shortens and removes
// only files that a run of this program wrote.
#pragma once
#include <filesystem>

#include "train/options.h"

namespace sg::train {

// Whether the options say which folder; that folder; and else a new one, named by the time.
// new_folder() needs img_size.
bool names_folder(const Options& options);
std::filesystem::path run_folder(const Options& options);
std::filesystem::path new_folder(const Options& options);

constexpr const char* kCheckpoints = "checkpoints";  // the sub-folder of CheckpointFolder

// A folder is that of a run where its args.json, or a checkpoint in it, is one of this program's.
// Throws ExitCode::usage, naming them, where files have names that a run writes to, and the folder
// is not that of a run or they do not look as a run writes them. Changes nothing.
void check_files_in_the_way(const std::filesystem::path& folder);

// Removes what a killed run left half-written, which after check_files_in_the_way() is ours.
void remove_unfinished(const std::filesystem::path& folder);

}  // namespace sg::train
