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
#include "sgformer/detect/detector.h"
#include "sgformer/segment/segmentor.h"

namespace sg::infer {

// The file of weights that a person means: itself, or of a run's folder its best (else last)
// checkpoint. Throws ExitCode::checkpoint where a folder has none.
std::filesystem::path find_weights(const std::filesystem::path& path);

// What the model of a file is for, as checkpoints and --task name it.
inline constexpr const char* kClassification = "classification";
inline constexpr const char* kSegmentation = "segmentation";
inline constexpr const char* kDetection = "detection";
// A checkpoint of ours says so; of other files the names of the tensors do.
std::string task_of(const std::filesystem::path& path);

template <class Model>
struct LoadedModel {
  std::unique_ptr<Model> model;
  // The run's preprocessing, where the file is a checkpoint of ours; else that of the model's
  // recipe. Of segmentors and detectors the `stats` alone.
  Preprocessing preprocessing;
  data::ClassNames class_names;    // of the data it was trained on; empty: not in the file
  data::ClassTitles class_titles;  // readable names of some of them
  bool ema = false;                // the weights are the averaged ones
  std::string summary;             // a line on which weights were taken, from where
  nlohmann::json state;            // of a checkpoint of ours; null: the file holds weights alone
};
using ModelFile = LoadedModel<sgformer::Classifier>;
using SegmentorFile = LoadedModel<sgformer::Segmentor>;
using DetectorFile = LoadedModel<sgformer::Detector>;

struct ModelFileRequest {
  std::optional<bool> ema;  // left out: the averaged weights where the file has them
  // What the model is; for files that hold weights alone. A checkpoint of ours knows it.
  std::string model;
  // Options that win over those of the file; of a segmentor or detector the backbone and the
  // classes.
  std::function<sgformer::Config(sgformer::Config)> change;
  Compute compute;
};

// ExitCode::checkpoint with a table where weights and model do not fit, or the file is of another
// task. The number of classes is that of the weights.
ModelFile load_model(const std::filesystem::path& path, const ModelFileRequest& request = {});
// Which head, and how wide, the tensors of weights alone say.
SegmentorFile load_segmentor(const std::filesystem::path& path,
                             const ModelFileRequest& request = {});
// How wide the heads are, the tensors of weights alone say.
DetectorFile load_detector(const std::filesystem::path& path, const ModelFileRequest& request = {});

// Puts weights into an allocated model. A head of another number of classes is an error unless
// `reset_head` leaves the model's own as it is. `ema` is that of ModelFileRequest. Returns a line
// on which weights were taken, from where.
std::string load_initial_weights(sgformer::Classifier& model, const std::filesystem::path& path,
                                 std::optional<bool> ema, bool reset_head);
// The weights may be a classifier's: then those of its backbone are taken.
std::string load_initial_weights(sgformer::Segmentor& model, const std::filesystem::path& path,
                                 std::optional<bool> ema, bool reset_head);
std::string load_initial_weights(sgformer::Detector& model, const std::filesystem::path& path,
                                 std::optional<bool> ema, bool reset_head);

}  // namespace sg::infer
