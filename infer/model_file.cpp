#include "infer/model_file.h"

#include <algorithm>
#include <map>

#include "io/checkpoint.h"
#include "io/file_kind.h"
#include "io/json.h"
#include "io/pth.h"
#include "nn/state.h"
#include "sgformer/config_json.h"
#include "sgformer/weight_copies.h"
#include "sgformer/weights.h"

namespace sg::infer {
namespace {

using sgformer::Classifier, sgformer::Segmentor, sgformer::SegmentorConfig, sgformer::Weights;
namespace fs = std::filesystem;

using Change = decltype(ModelFileRequest::change);

// What the two kinds of models differ in; load() and fill() are written once for both.
struct Classification {
  using Model = Classifier;
  using Config = sgformer::Config;
  static constexpr const char* kTask = kClassification;

  static Config from_json(const nlohmann::json& json) { return sgformer::config_from_json(json); }
  static sgformer::Config& backbone(Config& config) { return config; }
  static void apply(const Change& change, Config& config) { config = change(config); }
  static std::string name(const Config& config) { return config.name; }
  // A tensor whose first dimension is the number of classes.
  static bool has_classes(const std::string& name) { return name.starts_with("head."); }

  // A published model with a head as these weights have it.
  static Config fitting(const std::string& model, const Weights& weights) {
    Config config = sgformer::find_config(model);
    for (const auto& [name, tensor] : weights.tensors)
      if (name == "head.weight" && tensor.dims() == 2) config.classes = tensor.dim(0);
    return config;
  }
};

struct Segmentation {
  using Model = Segmentor;
  using Config = SegmentorConfig;
  static constexpr const char* kTask = kSegmentation;

  static Config from_json(const nlohmann::json& json) {
    return sgformer::segmentor_config_from_json(json);
  }
  static sgformer::Config& backbone(Config& config) { return config.backbone; }
  static void apply(const Change& change, Config& config) {
    config.backbone.classes = config.classes;  // where options change them
    config.backbone = change(config.backbone);
    config.classes = config.backbone.classes;
  }
  static std::string name(const Config& config) {
    return fmt::format("{} with {}", config.backbone.name, name_of(config.head));
  }
  static bool has_classes(const std::string& name) { return name.find(".conv_seg.") != name.npos; }

  static Config fitting(const std::string& model, const Weights& weights) {
    std::map<std::string, Shape> shapes;
    for (const auto& [name, tensor] : weights.tensors) shapes.emplace(name, tensor.shape());
    const char* head = shapes.contains("neck.fpn_convs.0.conv.weight") ? "semantic_fpn" : "upernet";
    Config config = sgformer::find_segmentor_config(model, head, 1);
    const auto size = [&](const std::string& name, int dimension, int64_t otherwise) {
      const auto at = shapes.find(name);
      const bool has = at != shapes.end() && dimension < at->second.size();
      return has ? at->second[dimension] : otherwise;
    };
    config.classes = size("decode_head.conv_seg.weight", 0, config.classes);
    config.channels = size("decode_head.conv_seg.weight", 1, config.channels);
    config.neck_channels = size("neck.fpn_convs.0.conv.weight", 0, config.neck_channels);
    config.auxiliary_channels = size("auxiliary_head.conv_seg.weight", 1, 0);
    return config;
  }
};

// Throws with the table of what differs, if anything does.
void check_fit(const std::string& model, const Weights& weights, const fs::path& path,
               const sgformer::Differences& d) {
  if (d.none()) return;
  fail(ExitCode::checkpoint, "{}: the weights do not fit {}{}:\n{}", path.string(), model,
       weights.prefix.empty()
           ? ""
           : fmt::format(" ({} taken off)", sgformer::describe_prefix(weights.prefix)),
       d.table());
}

template <class Kind>
void fill(typename Kind::Model& model, const Weights& weights, const fs::path& path,
          bool reset_head) {
  std::vector<std::pair<std::string, Shape>> expected = nn::state_shapes(model.parameters());
  std::vector<NamedTensor> found = weights.tensors;
  const auto of_head = [&](const auto& t) { return Kind::has_classes(t.first); };
  if (reset_head) std::erase_if(expected, of_head), std::erase_if(found, of_head);
  const sgformer::Differences d = sgformer::differences(found, expected);
  const bool only_head =
      d.missing.empty() && d.unexpected.empty() &&
      std::ranges::all_of(d.shapes, [](const auto& m) { return Kind::has_classes(m.name); });
  if (!d.none() && only_head)
    fail(
        ExitCode::checkpoint,
        "{}: its head has {} classes, the model has {}; sgtrain --reset-head starts with a new one",
        path.string(), d.shapes[0].found[0], model.config().classes);
  check_fit(Kind::name(model.config()), weights, path, d);
  nn::set_state(model.parameters(), found);
}

[[noreturn]] void of_other_task(const fs::path& path, const std::string& found) {
  const bool segmentor = found == kSegmentation;
  fail(ExitCode::checkpoint, "{}: expected the weights of a {}, found those of a {}; use --task {}",
       path.string(), segmentor ? "classifier" : "segmentor",
       segmentor ? "segmentor" : "classifier", found);
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

template <class Kind>
LoadedModel<typename Kind::Model> load(const fs::path& path, const ModelFileRequest& request) {
  if (const std::string task = task_of(path); task != Kind::kTask) of_other_task(path, task);
  LoadedModel<typename Kind::Model> result;
  std::optional<typename Kind::Config> config;
  if (is_checkpoint(path)) {
    const nlohmann::json& state = result.state = checkpoint_state(path);
    try {
      if (state.contains("model")) config = Kind::from_json(state["model"]);
      if (config) result.preprocessing = default_preprocessing(Kind::backbone(*config));
      if (state.contains("args")) apply_args(result.preprocessing, state["args"]);
      result.class_names = state.value("classes", result.class_names);
      result.class_titles = state.value("class_titles", result.class_titles);
    } catch (const std::exception& e) {
      fail(ExitCode::checkpoint, "{}: {}; it is of another version", path.string(), e.what());
    }
  } else if (!request.model.empty()) {
    result.preprocessing = default_preprocessing(sgformer::find_config(request.model));
  }
  if (!request.model.empty() && config && Kind::backbone(*config).name != request.model)
    config.reset();
  if (!config && request.model.empty())
    fail(ExitCode::usage, "{}: holds weights alone; say with --model what model they are of",
         path.string());
  const Weights weights = sgformer::load_weights(path, request.ema);
  if (!config) config = Kind::fitting(request.model, weights);
  if (request.change) Kind::apply(request.change, *config);
  result.model = std::make_unique<typename Kind::Model>(*config);
  result.model->parameters().allocate(request.compute.dtype, request.compute.device,
                                      /*gradients=*/false);
  fill<Kind>(*result.model, weights, path, false);
  if (result.class_names.empty() &&
      int64_t(weights.classes.size()) == result.model->config().classes)
    result.class_names = weights.classes;
  result.ema = weights.ema;
  result.summary = weights.summary;
  return result;
}

template <class File>
bool has_decode_head(const File& file) {
  return std::ranges::any_of(sgformer::weight_copies(file.names(), file.path().string()),
                             [](const auto& copy) {
                               return std::ranges::any_of(copy.names, [](const auto& item) {
                                 return item.first.starts_with(sgformer::kDecodeHead);
                               });
                             });
}

}  // namespace

fs::path find_weights(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return path;
  for (const fs::path& folder : {path / "checkpoints", path})
    for (const char* name : {"best.safetensors", "last.safetensors"})
      if (fs::is_regular_file(folder / name, error)) return folder / name;
  fail(ExitCode::checkpoint,
       "{}: expected a file of weights, or the folder of a run with checkpoints/best.safetensors",
       path.string());
}

std::string task_of(const fs::path& path) {
  if (is_checkpoint(path)) return checkpoint_state(path).value("task", kClassification);
  const bool segmentor = kind_of(path) == FileKind::safetensors
                             ? has_decode_head(Safetensors::open(path))
                             : has_decode_head(Pth::open(path));
  return segmentor ? kSegmentation : kClassification;
}

ModelFile load_model(const fs::path& path, const ModelFileRequest& request) {
  return load<Classification>(path, request);
}

SegmentorFile load_segmentor(const fs::path& path, const ModelFileRequest& request) {
  return load<Segmentation>(path, request);
}

std::string load_initial_weights(Classifier& model, const fs::path& path, std::optional<bool> ema,
                                 bool reset_head) {
  const Weights weights = sgformer::load_weights(path, ema);
  if (weights.of_segmentor()) of_other_task(path, kSegmentation);
  fill<Classification>(model, weights, path, reset_head);
  return weights.summary;
}

std::string load_initial_weights(Segmentor& model, const fs::path& path, std::optional<bool> ema,
                                 bool reset_head) {
  const Weights weights = sgformer::load_weights(path, ema);
  if (weights.of_segmentor()) {
    fill<Segmentation>(model, weights, path, reset_head);
    return weights.summary;
  }
  const std::string prefix = "backbone.";
  std::vector<NamedTensor> found;
  for (const auto& [name, tensor] : weights.tensors)
    if (!Classification::has_classes(name)) found.emplace_back(prefix + name, tensor);
  std::vector<std::pair<std::string, Shape>> expected = nn::state_shapes(model.parameters());
  std::erase_if(expected, [&](const auto& t) { return !t.first.starts_with(prefix); });
  check_fit(model.config().backbone.name, weights, path, sgformer::differences(found, expected));
  nn::set_state(model.parameters(), found);
  return fmt::format("{}; of a classifier: the backbone's alone", weights.summary);
}

}  // namespace sg::infer
