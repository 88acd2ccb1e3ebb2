#include "infer/model_file.h"

#include <algorithm>

#include "io/checkpoint.h"
#include "sgformer/config_json.h"
#include "sgformer/weights.h"

namespace sg::train {
namespace {

struct Weights {
  std::vector<NamedTensor> tensors;
  bool ema = false;
};

bool is_safetensors(const std::filesystem::path& path) {
  return path.extension() == ".safetensors";
}

Weights read_weights(const std::filesystem::path& path, std::optional<bool> ema) {
  const bool averaged = ema.value_or(has_ema(path));
  return {load_weights(path, averaged), averaged};
}

bool is_head(const std::string& name) { return name == "head.weight" || name == "head.bias"; }

void fill(sgformer::Model& model, const std::vector<NamedTensor>& weights,
          const std::filesystem::path& path, bool reset_head) {
  nn::ParameterStore& parameters = model.parameters();
  std::vector<std::pair<std::string, Shape>> expected;
  for (const std::string& name : parameters.names())
    if (!reset_head || !is_head(name)) expected.emplace_back(name, parameters.part(name).official);
  std::vector<NamedTensor> found;
  for (const NamedTensor& w : weights)
    if (!reset_head || !is_head(w.first)) found.push_back(w);

  const Differences d = differences(found, expected);
  const bool only_head =
      d.missing.empty() && d.unexpected.empty() &&
      std::ranges::all_of(d.shapes, [](const auto& m) { return is_head(m.name); });
  if (!d.none() && only_head)
    fail(ExitCode::checkpoint,
         "{}: its head has {} classes, the model has {}; --reset-head starts with a new head",
         path.string(), d.shapes[0].found[0], model.config().classes);
  if (!d.none())
    fail(ExitCode::checkpoint, "{}: the weights do not fit {}:\n{}", path.string(),
         model.config().name, d.table());
  for (const auto& [name, tensor] : found) parameters.set(parameters.values(), name, tensor);
}

}  // namespace

ModelFile load_model(const std::filesystem::path& path, const ModelFileRequest& request) {
  ModelFile result;
  std::optional<sgformer::Config> config;
  InputFile(path, ExitCode::checkpoint);  // says whether it is there before what it lacks
  if (is_safetensors(path) && is_checkpoint(Safetensors::open(path))) {
    const nlohmann::json state = checkpoint_state(path);
    try {
      if (state.contains("args")) apply_json(result.options, state["args"], "args");
      if (state.contains("model")) config = sgformer::config_from_json(state["model"]);
      result.class_names = state.value("classes", result.class_names);
    } catch (const std::exception& e) {
      fail(ExitCode::checkpoint, "{}: {}; it is of another version", path.string(), e.what());
    }
  } else if (!request.model.empty()) {
    result.options = default_options(request.model);
  }
  if (!request.model.empty() && !(config && config->name == request.model))
    config = sgformer::find_config(request.model);
  if (!config)
    fail(ExitCode::usage, "{}: holds weights alone; say with --model what model they are of",
         path.string());
  const Weights weights = read_weights(path, request.ema);
  for (const auto& [name, tensor] : weights.tensors)
    if (name == "head.weight" && tensor.dims() == 2) config->classes = tensor.dim(0);
  if (request.change) config = request.change(*config);
  result.model = std::make_unique<sgformer::Model>(*config);
  result.model->parameters().allocate(request.compute.dtype, request.compute.device);
  fill(*result.model, weights.tensors, path, false);
  result.ema = weights.ema;
  return result;
}

bool load_initial_weights(sgformer::Model& model, const std::filesystem::path& path,
                          bool reset_head) {
  const Weights weights = read_weights(path, {});
  fill(model, weights.tensors, path, reset_head);
  return weights.ema;
}

}  // namespace sg::train
