// sginfo: what a model, or a checkpoint, is made of.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/text.h"
#include "io/checkpoint.h"
#include "nn/trace.h"
#include "sgformer/detect/config.h"
#include "sgformer/weight_copies.h"
#include "tools/common/announce.h"
#include "tools/common/options.h"

namespace {

using sg::nn::LayerRow;

std::string grouped_digits(int64_t n) { return fmt::format("{}", fmt::group_digits(n)); }

// Rows of the layers below one block, stem or patch merging, or of one list of a head as one row:
// "block1.0.mlp.fc1" belongs to "block1.0", "decode_head.fpn_convs.2.conv" to
// "decode_head.fpn_convs".
std::string group_of(const std::string& name) {
  constexpr std::string_view kBackbone = "backbone.";
  const size_t begin = name.starts_with(kBackbone) ? kBackbone.size() : 0;
  const size_t dot = name.find('.', begin);
  const bool two = name.compare(begin, 5, "block") == 0 || name.starts_with("neck.") ||
                   name.starts_with("roi_head.") || name.starts_with(sg::sgformer::kRpnHead) ||
                   name.starts_with(sg::sgformer::kDecodeHead);
  return name.substr(0, two && dot != name.npos ? name.find('.', dot + 1) : dot);
}

std::vector<LayerRow> grouped(const std::vector<LayerRow>& rows) {
  std::vector<LayerRow> groups;
  for (const LayerRow& row : rows) {
    const std::string name = group_of(row.name);
    auto g = std::ranges::find(groups, name, &LayerRow::name);
    if (g == groups.end()) g = groups.insert(g, {name, "", {}, 0, 0, 0});
    g->output = row.output;
    g->parameters += row.parameters;
    g->macs += row.macs;
    g->output_bytes += row.output_bytes;
  }
  return groups;
}

void print_row(const std::string& name, const std::string& kind, const std::string& output,
               const LayerRow& r, size_t name_width, size_t kind_width) {
  fmt::print("{:<{}}  {:<{}}  {:<20} {:>12} {:>9.4f} {:>9.2f}\n", name, name_width, kind,
             kind_width, output, grouped_digits(r.parameters), 1e-9 * r.macs,
             double(r.output_bytes) / (1 << 20));
}

void print_table(const std::vector<LayerRow>& rows, const LayerRow& total) {
  size_t name_width = 5, kind_width = 0;
  for (const LayerRow& r : rows) {
    name_width = std::max(name_width, r.name.size());
    kind_width = std::max(kind_width, r.kind.size());
  }
  fmt::print("{:<{}}  {:<{}}  {:<20} {:>12} {:>9} {:>9}\n", "layer", name_width,
             kind_width ? "kind" : "", kind_width, "output", "parameters", "GMAC", "MiB");
  for (const LayerRow& r : rows)
    print_row(r.name, r.kind, r.output.str(), r, name_width, kind_width);
  print_row("total", "", "", total, name_width, kind_width);
}

LayerRow sum(const std::vector<LayerRow>& rows) {
  LayerRow total{"total", "", {}, 0, 0, 0};
  for (const LayerRow& r : rows) {
    total.parameters += r.parameters;
    total.macs += r.macs;
    total.output_bytes += r.output_bytes;
  }
  return total;
}

// Weights by whether the recipe decays them.
struct Decay {
  int64_t parameters = 0, tensors = 0;
};
Decay decayed(const sg::nn::ParameterStore& store) {
  Decay d;
  for (const std::string& name : store.names())
    if (const sg::nn::NamedSlice& part = store.part(name); part.group.weight_decay_scale > 0)
      d.parameters += part.official.numel(), ++d.tensors;
  return d;
}

nlohmann::json to_json(const LayerRow& r) {
  std::vector<int64_t> shape;
  for (int i = 0; i < r.output.size(); ++i) shape.push_back(r.output[i]);
  nlohmann::json j{{"name", r.name},
                   {"output", shape},
                   {"parameters", r.parameters},
                   {"macs", r.macs},
                   {"output_bytes", r.output_bytes}};
  if (!r.kind.empty()) j["kind"] = r.kind;
  return j;
}

// What is shown, of either kind of model.
struct Subject {
  std::string name;
  int64_t classes;
  const sg::sgformer::Config& backbone;
  const sg::nn::ParameterStore& parameters;
  std::function<void(const sg::Tensor& images)> forward;
};
Subject subject(const sg::sgformer::Classifier& model) {
  const sg::sgformer::Config& c = model.config();
  return {c.name, c.classes, c, model.parameters(), [&](const auto& x) { model.forward(x); }};
}
Subject subject(const sg::sgformer::Segmentor& model) {
  const sg::sgformer::SegmentorConfig& c = model.config();
  return {fmt::format("{} with {}", c.backbone.name, name_of(c.head)), c.classes, c.backbone,
          model.parameters(), [&](const auto& x) { model.forward(x); }};
}

Subject subject(const sg::sgformer::Detector& model) {
  const sg::sgformer::DetectorConfig& c = model.config();
  // The heads as of 1000 proposals, and of masks for 100 detections (kTestProposals).
  const auto forward = [&model](const sg::Tensor& images) {
    const std::vector<sg::Tensor> pyramid = model.pyramid(images, {});
    model.rpn(pyramid);
    const auto rois = [](int64_t n) {
      sg::Tensor boxes = sg::zeros({n, 5});
      for (int64_t i = 0; i < n; ++i)
        boxes.data<float>()[5 * i + 3] = boxes.data<float>()[5 * i + 4] = 32;
      return boxes;
    };
    for (const int64_t n : {1000, 100}) {
      const sg::Tensor levels = sg::zeros({n}, sg::Dtype::i32);
      if (n == 1000)
        model.boxes(pyramid, rois(n), levels);
      else
        model.masks(pyramid, rois(n), levels);
    }
  };
  return {c.backbone.name + " with Mask R-CNN", c.heads.classes, c.backbone, model.parameters(),
          forward};
}

// The weights of a file are read too: the answer is of a file that can be used.
struct Request {
  std::string checkpoint, model, head;  // of what the command line does not say: empty
  std::optional<bool> ema;
  sg::infer::ModelFileRequest of_file(const sg::train::Options& options) const {
    return {.ema = ema, .model = model, .change = [&options](auto config) {
              return sg::train::apply(options, std::move(config));
            }};
  }
};

sg::infer::ModelFile classifier(const Request& request, const sg::train::Options& options) {
  if (!request.checkpoint.empty())
    return sg::infer::load_model(request.checkpoint, request.of_file(options));
  return {.model = std::make_unique<sg::sgformer::Classifier>(sg::train::model_config(options))};
}

sg::infer::SegmentorFile segmentor(const Request& request, const sg::train::Options& options) {
  sg::infer::SegmentorFile file;
  if (request.checkpoint.empty()) {
    sg::sgformer::SegmentorConfig config = sg::sgformer::find_segmentor_config(
        options.model, request.head, options.num_classes.value_or(150));
    config.backbone = sg::train::apply(options, config.backbone);
    file.model = std::make_unique<sg::sgformer::Segmentor>(config);
  } else {
    file = sg::infer::load_segmentor(request.checkpoint, request.of_file(options));
  }
  file.model->parameters().set_groups(group_rule(file.model->config(), {}));
  return file;
}

sg::infer::DetectorFile detector(const Request& request, const sg::train::Options& options) {
  sg::infer::DetectorFile file;
  if (request.checkpoint.empty()) {
    sg::sgformer::DetectorConfig config =
        sg::sgformer::find_detector_config(options.model, options.num_classes.value_or(80));
    config.backbone = sg::train::apply(options, config.backbone);
    file.model = std::make_unique<sg::sgformer::Detector>(config);
  } else {
    file = sg::infer::load_detector(request.checkpoint, request.of_file(options));
  }
  file.model->parameters().set_groups(group_rule(file.model->config(), {}));
  return file;
}

// What is short enough to be read: no class names, no nested settings.
void print_state(const nlohmann::json& state) {
  for (const auto& [key, value] : state.items())
    if (value.is_primitive()) fmt::print("  {:<18} {}\n", key, value.dump());
  if (state.contains("classes"))
    fmt::print("  {:<18} {} names\n", "classes", state["classes"].size());
}

}  // namespace

// Prints what the command line asks for; `file` has a model whose parameters are allocated.
template <class Model>
void show(const sg::infer::LoadedModel<Model>& file, const std::string& checkpoint,
          std::optional<sg::ImageSize> img_size, bool all, bool json) {
  const Subject model = subject(*file.model);
  const sg::ImageSize image = img_size.value_or(int(model.backbone.image));
  std::vector<LayerRow> rows;
  {
    const sg::autograd::NoGrad no_grad;
    const sg::nn::Trace trace;
    model.forward(sg::zeros({1, image.height, image.width, 3}));
    rows = trace.rows();
  }
  const LayerRow total = sum(rows);
  if (!all) rows = grouped(rows);
  const int64_t parameters = model.parameters.count();
  const int64_t tensors = int64_t(model.parameters.names().size());
  const Decay decay = decayed(model.parameters);

  if (json) {
    nlohmann::json j{{"model", model.name},
                     {"classes", model.classes},
                     {"height", image.height},
                     {"width", image.width},
                     {"parameters", parameters},
                     {"macs", total.macs},
                     {"decayed_parameters", decay.parameters},
                     {"decayed_tensors", decay.tensors},
                     {"tensors", tensors}};
    if (!file.state.is_null()) j["checkpoint"] = file.state;
    for (const LayerRow& r : rows) j["layers"].push_back(to_json(r));
    fmt::print("{}\n", j.dump(2));
    return;
  }
  fmt::print("{}, {} classes, one image of {}x{}\n\n", model.name, model.classes, image.height,
             image.width);
  print_table(rows, total);
  if (parameters != total.parameters)
    fmt::print("\n{} parameters more are of the auxiliary head, which runs in training alone",
               grouped_digits(parameters - total.parameters));
  fmt::print("\n{} parameters in {} tensors, {} of them with weight decay; {:.3f} GMAC\n",
             grouped_digits(parameters), tensors, grouped_digits(decay.parameters),
             1e-9 * total.macs);
  if (!file.state.is_null()) {
    fmt::print("\ncheckpoint {}\n", sg::escape_odd_bytes(checkpoint));
    print_state(file.state);
  }
}

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Shows what a model consists of, for one image: output shape, parameters, multiply-adds in "
        "1e9 (GMAC), and memory of the outputs in MiB of float32.");
    sg::train::Options options;
    Request request;
    bool all = false, json = false;
    auto* name = sg::tools::add_option(app, {"model,--model", "model name"}, options.model);
    app.add_option("--head", request.head,
                   "the model with this head: semantic_fpn or upernet of segmentation, with 150 "
                   "classes by default; mask_rcnn of detection, with 80");
    app.add_option("--checkpoint", request.checkpoint,
                   "a checkpoint of sgtrain or a run's folder instead of a name, or weights alone "
                   "of the named "
                   "model");
    sg::tools::add_ema_flags(app, request.ema);
    sg::tools::add_options(app, options, sg::tools::kModelFlags);
    sg::tools::add_options(app, options, {"img-size"});
    app.add_flag("--all", all, "a row per layer instead of a row per block");
    app.add_flag("--json", json, "JSON on standard output");
    sg::tools::parse(app, argc, argv);

    const std::string kDetector = "mask_rcnn";
    std::string task = request.head.empty()        ? sg::infer::kClassification
                       : request.head == kDetector ? sg::infer::kDetection
                                                   : sg::infer::kSegmentation;
    if (request.checkpoint.empty()) {
      if (request.ema)
        sg::fail(sg::ExitCode::usage, "--ema and --no-ema choose weights of --checkpoint");
    } else {
      if (!request.head.empty())
        sg::fail(sg::ExitCode::usage, "--head: the file of --checkpoint says which head it has");
      request.checkpoint = sg::infer::find_weights(request.checkpoint).string();
      if (name->count()) request.model = options.model;
      if (request.model.empty() && !sg::is_checkpoint(request.checkpoint))
        sg::fail(sg::ExitCode::usage,
                 "{}: holds weights alone, not what model they are of; name the model too: {}",
                 request.checkpoint, fmt::join(sg::sgformer::config_names(), ", "));
      task = sg::infer::task_of(request.checkpoint);
    }
    const auto show_file = [&](auto file) {
      if (request.checkpoint.empty())
        file.model->parameters().allocate();
      else
        sg::tools::announce(file);
      show(file, request.checkpoint, options.img_size, all, json);
    };
    if (task == sg::infer::kDetection)
      show_file(detector(request, options));
    else if (task == sg::infer::kSegmentation)
      show_file(segmentor(request, options));
    else
      show_file(classifier(request, options));
    return sg::ExitCode::ok;
  });
}
