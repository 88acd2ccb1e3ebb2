// The checkpoints of one run:
//   checkpoint-<epoch>.safetensors   the best `history` of them
//   recovery-<step>.safetensors      saved within an epoch
//   last.safetensors   a further name of the newest that was not saved while steps were skipped
//   best.safetensors   of the best epoch
//   good.safetensors   of the newest whose weights are known to give finite losses: see prove()
// The two newest of all stay too, so that there is one before if one is damaged. "Newest" is the
// order of saving, not of steps: a run may go back to an older checkpoint in the same folder; then
// the best is that of the epochs up to there, and the epochs after it stay until others of the same
// number take their names.
// Killed at any moment, the folder holds the previous checkpoint or the new one.
//
// Only whole checkpoints of exactly these names count, whose state is of the epoch or step that the
// name says: copies by other names are their maker's, and are neither resumed from nor removed.
// What else bears such a name when a checkpoint is saved there is kept by another name.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "io/checkpoint.h"
#include "io/file.h"

namespace sg::train {

struct Resumable {
  std::filesystem::path path;
  Checkpoint checkpoint;
};

class CheckpointFolder {
 public:
  // Creates the folder, refuses a second writer, removes what a killed run left half-written.
  explicit CheckpointFolder(std::filesystem::path folder, int history = 10);

  // At the end of epoch state["epoch"]; a greater metric is better, of equal ones the first.
  void save(Checkpoint checkpoint, std::optional<double> metric = {});
  void save_recovery(Checkpoint checkpoint);
  // The weights after `step` steps have given finite losses. Where the newest checkpoint has them,
  // it is from now on the good one.
  void prove(int64_t step);
  // The run has failed. Returns the good one that verifies; where there is none, the newest of an
  // earlier process whose weights `gives_finite_losses`, which becomes the good one. So that
  // find_resumable() goes on from it, what is newer goes: what this process saved is removed; what
  // an earlier one saved, and the best, gets another name. Without a good one they all stay, but
  // for what this process saved and is not the best.
  std::optional<Resumable> fall_back(
      const std::function<bool(const Checkpoint&)>& gives_finite_losses);

 private:
  void save_as(const std::string& name, Checkpoint checkpoint, std::optional<double> metric);
  // Points last and best to their checkpoints, and removes those that are no longer kept.
  void update_links_and_prune() const;
  void remove(const std::filesystem::path& path) const;

  std::filesystem::path folder_;
  size_t history_;
  FolderLock lock_;
  int64_t serial_;        // of the next checkpoint
  int64_t first_serial_;  // that this process gave
};

// Whether the folder holds a checkpoint of a run.
bool holds_checkpoint(const std::filesystem::path& folder);
// Whole safetensors files of another program, by names that a run writes to.
std::vector<std::filesystem::path> foreign_checkpoints(const std::filesystem::path& folder);

// Name of the first weight or moment that is not finite; "" where all are. Averaged weights are
// not looked at: they can begin anew.
std::string first_not_finite(const Checkpoint& checkpoint);

// For --resume auto: the newest checkpoint of the folder that verifies and whose weights are
// finite; a warning says what is wrong with a newer one. Nothing where the folder holds none; an
// error where all are damaged.
std::optional<Resumable> find_resumable(const std::filesystem::path& folder);

}  // namespace sg::train
