// A model from a file: its configuration, weights, and how its images are to be prepared.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/compute.h"
#include "data/class_names.h"
#include "infer/predictor.h"

namespace sg::infer {

// The file of weights that a person means: itself, or of a run's folder its best (else last)
// checkpoint. Throws ExitCode::checkpoint where a folder has none.
std::filesystem::path find_weights(const std::filesystem::path& path);

struct ModelFile {
  std::unique_ptr<sgformer::Classifier> model;
  // The run's preprocessing, where the file is a checkpoint of ours; else that of the model's
  // recipe.
  Preprocessing preprocessing;
  data::ClassNames class_names;    // of the data it was trained on; empty: not in the file
  data::ClassTitles class_titles;  // readable names of some of them
  bool ema = false;                // the weights are the averaged ones
  std::string summary;             // a line on which weights were taken, from where
  nlohmann::json state;            // of a checkpoint of ours; null: the file holds weights alone
};

struct ModelFileRequest {
  std::optional<bool> ema;  // left out: the averaged weights where the file has them
  // What the model is; for files that hold weights alone. A checkpoint of ours knows it.
  std::string model;
  // Options that win over those of the file.
  std::function<sgformer::Config(sgformer::Config)> change;
  Compute compute;
};

// ExitCode::checkpoint with a table where weights and model do not fit. The number of classes is
// that of the weights.
ModelFile load_model(const std::filesystem::path& path, const ModelFileRequest& request = {});

// Puts weights into an allocated model. A head of another number of classes is an error unless
// `reset_head` leaves the model's own as it is. `ema` is that of ModelFileRequest. Returns a line
// on which weights were taken, from where.
std::string load_initial_weights(sgformer::Classifier& model, const std::filesystem::path& path,
                                 std::optional<bool> ema, bool reset_head);

}  // namespace sg::infer
