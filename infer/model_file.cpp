#include "infer/model_file.h"

#include <algorithm>
#include <type_traits>

#include "io/checkpoint.h"
#include "io/file_kind.h"
#include "io/json.h"
#include "io/pth.h"
#include "nn/state.h"
#include "sgformer/config_json.h"
#include "sgformer/detect/config.h"
#include "sgformer/weight_copies.h"
#include "sgformer/weights.h"

namespace sg::infer {
namespace {

using sgformer::Classifier, sgformer::Detector, sgformer::DetectorConfig;
using sgformer::Segmentor, sgformer::SegmentorConfig, sgformer::Weights;
namespace fs = std::filesystem;

using Change = decltype(ModelFileRequest::change);

// Dimension `dimension` of the tensor of this name, where the weights have it.
int64_t size_in(const Weights& weights, const std::string& name, int dimension, int64_t otherwise) {
  const auto at = std::ranges::find(weights.tensors, name, &NamedTensor::first);
  const bool has = at != weights.tensors.end() && dimension < at->second.dims();
  return has ? at->second.dim(dimension) : otherwise;
}

// What the kinds of models differ in; load() and fill() are written once for all.
struct Classification {
  using Model = Classifier;
  using Config = sgformer::Config;
  static constexpr const char *kTask = kClassification, *kName = "classifier",
                              *kClassTensor = "head.weight";

  static Config from_json(const nlohmann::json& json) { return sgformer::config_from_json(json); }
  static sgformer::Config& backbone(Config& config) { return config; }
  static void apply(const Change& change, Config& config) { config = change(config); }
  static std::string name(const Config& config) { return config.name; }
  static int64_t classes(const Config& config) { return config.classes; }
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
  static constexpr const char *kTask = kSegmentation, *kName = "segmentor",
                              *kClassTensor = "decode_head.conv_seg.weight";

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
  static int64_t classes(const Config& config) { return config.classes; }
  static bool has_classes(const std::string& name) { return name.find(".conv_seg.") != name.npos; }

  static Config fitting(const std::string& model, const Weights& weights) {
    const auto size = [&](const std::string& name, int dimension, int64_t otherwise) {
      return size_in(weights, name, dimension, otherwise);
    };
    const bool pyramid = size("neck.fpn_convs.0.conv.weight", 0, 0) > 0;
    Config config = sgformer::find_segmentor_config(model, pyramid ? "semantic_fpn" : "upernet", 1);
    config.classes = size(kClassTensor, 0, config.classes);
    config.channels = size(kClassTensor, 1, config.channels);
    config.neck_channels = size("neck.fpn_convs.0.conv.weight", 0, config.neck_channels);
    config.auxiliary_channels = size("auxiliary_head.conv_seg.weight", 1, 0);
    return config;
  }
};

struct Detection {
  using Model = Detector;
  using Config = DetectorConfig;
  static constexpr const char *kTask = kDetection, *kName = "detector",
                              *kClassTensor = "roi_head.mask_head.conv_logits.weight";

  static Config from_json(const nlohmann::json& json) {
    return sgformer::detector_config_from_json(json);
  }
  static sgformer::Config& backbone(Config& config) { return config.backbone; }
  static void apply(const Change& change, Config& config) {
    config.backbone.classes = config.heads.classes;  // where options change them
    config.backbone = change(config.backbone);
    config.heads.classes = config.backbone.classes;
  }
  static std::string name(const Config& config) {
    return fmt::format("{} with Mask R-CNN", config.backbone.name);
  }
  static int64_t classes(const Config& config) { return config.heads.classes; }
  static bool has_classes(const std::string& name) {
    return name.find(".fc_cls.") != name.npos || name.find(".fc_reg.") != name.npos ||
           name.find(".conv_logits.") != name.npos;
  }

  static Config fitting(const std::string& model, const Weights& weights) {
    Config config = sgformer::find_detector_config(model, 1);
    sgformer::DetectorHeads& heads = config.heads;
    heads.classes = size_in(weights, kClassTensor, 0, heads.classes);
    heads.channels = size_in(weights, "neck.fpn_convs.0.conv.weight", 0, heads.channels);
    heads.hidden = size_in(weights, "roi_head.bbox_head.fc_cls.weight", 1, heads.hidden);
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
        path.string(), size_in(weights, Kind::kClassTensor, 0, 0), Kind::classes(model.config()));
  check_fit(Kind::name(model.config()), weights, path, d);
  nn::set_state(model.parameters(), found);
}

template <class Kind>
[[noreturn]] void of_other_task(const fs::path& path, const std::string& found) {
  const char* const name = found == kDetection      ? Detection::kName
                           : found == kSegmentation ? Segmentation::kName
                                                    : Classification::kName;
  fail(ExitCode::checkpoint, "{}: expected the weights of a {}, found those of a {}; use --task {}",
       path.string(), Kind::kName, name, found);
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
  if (const std::string task = task_of(path); task != Kind::kTask) of_other_task<Kind>(path, task);
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
      int64_t(weights.classes.size()) == Kind::classes(result.model->config()))
    result.class_names = weights.classes;
  result.ema = weights.ema;
  result.summary = weights.summary;
  return result;
}

// Of weights alone, by the names of their tensors.
std::string task_of_names(const std::vector<std::string>& in_file, const fs::path& path) {
  const auto copies = sgformer::weight_copies(in_file, path.string());
  const auto any = [&](std::string_view head) {
    return std::ranges::any_of(copies, [&](const auto& copy) {
      return std::ranges::any_of(copy.names,
                                 [&](const auto& item) { return item.first.starts_with(head); });
    });
  };
  if (any(sgformer::kRpnHead)) return kDetection;
  return any(sgformer::kDecodeHead) ? kSegmentation : kClassification;
}

// Those of the backbone alone, from weights of a classifier.
template <class Kind>
std::string fill_backbone(typename Kind::Model& model, const Weights& weights,
                          const fs::path& path) {
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

// What the weights are of; a classifier's fit every model.
std::string task_of(const Weights& weights) {
  if (weights.of_detector()) return kDetection;
  return weights.of_segmentor() ? kSegmentation : kClassification;
}

template <class Kind>
std::string load_initial(typename Kind::Model& model, const fs::path& path, std::optional<bool> ema,
                         bool reset_head) {
  const Weights weights = sgformer::load_weights(path, ema);
  const std::string task = task_of(weights);
  if (task == Kind::kTask) {
    fill<Kind>(model, weights, path, reset_head);
    return weights.summary;
  }
  if constexpr (!std::is_same_v<Kind, Classification>)
    if (task == kClassification) return fill_backbone<Kind>(model, weights, path);
  of_other_task<Kind>(path, task);
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
  return task_of_names(kind_of(path) == FileKind::safetensors ? Safetensors::open(path).names()
                                                              : Pth::open(path).names(),
                       path);
}

ModelFile load_model(const fs::path& path, const ModelFileRequest& request) {
  return load<Classification>(path, request);
}

SegmentorFile load_segmentor(const fs::path& path, const ModelFileRequest& request) {
  return load<Segmentation>(path, request);
}

DetectorFile load_detector(const fs::path& path, const ModelFileRequest& request) {
  return load<Detection>(path, request);
}

std::string load_initial_weights(Classifier& model, const fs::path& path, std::optional<bool> ema,
                                 bool reset_head) {
  return load_initial<Classification>(model, path, ema, reset_head);
}

std::string load_initial_weights(Segmentor& model, const fs::path& path, std::optional<bool> ema,
                                 bool reset_head) {
  return load_initial<Segmentation>(model, path, ema, reset_head);
}

std::string load_initial_weights(Detector& model, const fs::path& path, std::optional<bool> ema,
                                 bool reset_head) {
  return load_initial<Detection>(model, path, ema, reset_head);
}

}  // namespace sg::infer
