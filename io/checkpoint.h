// Checkpoints: one safetensors file with all that is needed to go on as if never stopped.
//
// The weights carry the official names without a prefix, so that any reader of safetensors finds
// them; what belongs to training alone is prefixed. The state is JSON in the file's metadata. Each
// tensor and the metadata carry an XXH3 checksum.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace sg {

constexpr std::string_view kEma = "ema.", kMoment1 = "adam.m.", kMoment2 = "adam.v.";

// The tensors under `prefix`, their names without it; "" gives the weights.
std::vector<NamedTensor> part(const std::vector<NamedTensor>& tensors, std::string_view prefix);
// The same tensors, their names prefixed.
std::vector<NamedTensor> prefixed(std::string_view prefix, std::vector<NamedTensor> tensors);

// Name of the first tensor that holds a value that is not finite; "" where all are.
std::string first_not_finite(const std::vector<NamedTensor>& tensors);

struct Checkpoint {
  std::vector<NamedTensor> tensors;  // on the CPU
  // An object with at least the integer "step". A run adds the trainer's counters (step, updates,
  // epoch, epoch_steps, skipped, best: train/trainer_state.cpp) and its identity (args, model,
  // classes, train_images, seed, version: train/run.cpp); CheckpointFolder adds serial and metric.
  nlohmann::json state;
};

// The file has been synced and read back before it takes its name.
void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);
// Verifies every checksum; an error names the damaged tensor (ExitCode::checkpoint).
Checkpoint load_checkpoint(const std::filesystem::path& path);
// The tensors under one prefix, "" for the weights; only those are read and verified. To the
// averaged weights (kEma) belongs what has no average: running statistics.
std::vector<NamedTensor> load_part(const std::filesystem::path& path, std::string_view prefix);
// The state alone: the header is verified, the tensors are not read.
nlohmann::json checkpoint_state(const std::filesystem::path& path);
// True where the file claims to be one of ours; its tensors are then more than weights.
bool is_checkpoint(const Safetensors& file);
bool is_checkpoint(const std::filesystem::path& path);  // false for other kinds of weights too

}  // namespace sg
