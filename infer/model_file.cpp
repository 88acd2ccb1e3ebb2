#include "infer/model_file.h"

#include <algorithm>

#include "io/checkpoint.h"
#include "io/json.h"
#include "sgformer/config_json.h"
#include "sgformer/weight_copies.h"
#include "sgformer/weights.h"

namespace sg::infer {
namespace {

bool is_head(const std::string& name) { return name == "head.weight" || name == "head.bias"; }

void fill(sgformer::Classifier& model, const sgformer::Weights& weights,
          const std::filesystem::path& path, bool reset_head) {
  nn::ParameterStore& parameters = model.parameters();
  std::vector<std::pair<std::string, Shape>> expected;
  for (const std::string& name : parameters.names())
    if (!reset_head || !is_head(name)) expected.emplace_back(name, parameters.part(name).official);
  std::vector<NamedTensor> found;
  for (const NamedTensor& w : weights.tensors)
    if (!reset_head || !is_head(w.first)) found.push_back(w);

  const sgformer::Differences d = sgformer::differences(found, expected);
  const bool only_head =
      d.missing.empty() && d.unexpected.empty() &&
      std::ranges::all_of(d.shapes, [](const auto& m) { return is_head(m.name); });
  if (!d.none() && only_head)
    fail(
        ExitCode::checkpoint,
        "{}: its head has {} classes, the model has {}; sgtrain --reset-head starts with a new one",
        path.string(), d.shapes[0].found[0], model.config().classes);
  if (!d.none())
    fail(ExitCode::checkpoint, "{}: the weights do not fit {}{}:\n{}", path.string(),
         model.config().name,
         weights.prefix.empty()
             ? ""
             : fmt::format(" ({} taken off)", sgformer::describe_prefix(weights.prefix)),
         d.table());
  for (const auto& [name, tensor] : found) parameters.set(parameters.values(), name, tensor);
}

Preprocessing default_preprocessing(const sgformer::Config& config) {
  Preprocessing p;
  p.transform.img_size = int(config.image);
  p.transform.crop_pct = sgformer::default_crop_pct(config.name);
  return p;
}

// From the options of the run that wrote the checkpoint.
void apply_args(Preprocessing& p, const nlohmann::json& args) {
  if (args.contains("img_size")) {
    const auto size = image_size_from_json(args["img_size"]);
    if (!size) throw std::invalid_argument("img_size: " + args["img_size"].dump());
    p.transform.img_size = *size;
  }
  p.transform.crop_pct = args.value("crop_pct", p.transform.crop_pct);
  p.stats.mean = args.value("mean", p.stats.mean);
  p.stats.std = args.value("std", p.stats.std);
  p.transform.check();
}

}  // namespace

std::filesystem::path find_weights(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return path;
  for (const std::filesystem::path& folder : {path / "checkpoints", path})
    for (const char* name : {"best.safetensors", "last.safetensors"})
      if (std::filesystem::is_regular_file(folder / name, error)) return folder / name;
  fail(ExitCode::checkpoint,
       "{}: expected a file of weights, or the folder of a run with checkpoints/best.safetensors",
       path.string());
}

ModelFile load_model(const std::filesystem::path& path, const ModelFileRequest& request) {
  ModelFile result;
  std::optional<sgformer::Config> config;
  if (is_checkpoint(path)) {
    const nlohmann::json& state = result.state = checkpoint_state(path);
    try {
      if (state.contains("model")) config = sgformer::config_from_json(state["model"]);
      if (config) result.preprocessing = default_preprocessing(*config);
      if (state.contains("args")) apply_args(result.preprocessing, state["args"]);
      result.class_names = state.value("classes", result.class_names);
      result.class_titles = state.value("class_titles", result.class_titles);
    } catch (const std::exception& e) {
      fail(ExitCode::checkpoint, "{}: {}; it is of another version", path.string(), e.what());
    }
  } else if (!request.model.empty()) {
    result.preprocessing = default_preprocessing(sgformer::find_config(request.model));
  }
  if (!request.model.empty() && !(config && config->name == request.model))
    config = sgformer::find_config(request.model);
  if (!config)
    fail(ExitCode::usage, "{}: holds weights alone; say with --model what model they are of",
         path.string());
  const sgformer::Weights weights = sgformer::load_weights(path, request.ema);
  for (const auto& [name, tensor] : weights.tensors)
    if (name == "head.weight" && tensor.dims() == 2) config->classes = tensor.dim(0);
  if (request.change) config = request.change(*config);
  result.model = std::make_unique<sgformer::Classifier>(*config);
  result.model->parameters().allocate(request.compute.dtype, request.compute.device);
  fill(*result.model, weights, path, false);
  result.ema = weights.ema;
  result.summary = weights.summary;
  return result;
}

std::string load_initial_weights(sgformer::Classifier& model, const std::filesystem::path& path,
                                 std::optional<bool> ema, bool reset_head) {
  const sgformer::Weights weights = sgformer::load_weights(path, ema);
  fill(model, weights, path, reset_head);
  return weights.summary;
}

}  // namespace sg::infer
