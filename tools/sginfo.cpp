// sginfo: what a model, or a checkpoint, is made of.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/text.h"
#include "io/checkpoint.h"
#include "nn/trace.h"
#include "tools/common/announce.h"
#include "tools/common/options.h"

namespace {

using sg::nn::LayerRow;

std::string grouped_digits(int64_t n) { return fmt::format("{}", fmt::group_digits(n)); }

// Rows of the layers below one block, stem or patch merging as one row: "block1.0.mlp.fc1" belongs
// to "block1.0".
std::string group_of(const std::string& name) {
  const size_t dot = name.find('.');
  if (!name.starts_with("block") || dot == std::string::npos) return name.substr(0, dot);
  return name.substr(0, name.find('.', dot + 1));
}

std::vector<LayerRow> grouped(const std::vector<LayerRow>& rows) {
  std::vector<LayerRow> groups;
  for (const LayerRow& row : rows) {
    const std::string name = group_of(row.name);
    if (groups.empty() || groups.back().name != name) groups.push_back({name, "", {}, 0, 0, 0});
    LayerRow& g = groups.back();
    g.output = row.output;
    g.parameters += row.parameters;
    g.macs += row.macs;
    g.output_bytes += row.output_bytes;
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

// Its weights are read too: the answer is of a file that can be used.
sg::infer::ModelFile read(const std::string& checkpoint, const std::string& model,
                          std::optional<bool> ema, const sg::train::Options& options) {
  if (model.empty() && !sg::is_checkpoint(checkpoint))
    sg::fail(sg::ExitCode::usage,
             "{}: holds weights alone, not what model they are of; name the model too: {}",
             checkpoint, fmt::join(sg::sgformer::config_names(), ", "));
  auto file =
      sg::infer::load_model(checkpoint, {.ema = ema, .model = model, .change = [&](auto config) {
                                           return sg::train::apply(options, std::move(config));
                                         }});
  sg::tools::announce(file);
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

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Shows what a model consists of, for one image: output shape, parameters, multiply-adds in "
        "1e9 (GMAC), and memory of the outputs in MiB of float32.");
    sg::train::Options options;
    std::string checkpoint;
    std::optional<bool> ema;
    bool all = false, json = false;
    auto* name = sg::tools::add_option(app, {"model,--model", "model name"}, options.model);
    app.add_option("--checkpoint", checkpoint,
                   "a checkpoint of sgtrain or a run's folder instead of a name, or weights alone "
                   "of the named "
                   "model");
    sg::tools::add_ema_flags(app, ema);
    sg::tools::add_options(app, options, sg::tools::kModelFlags);
    sg::tools::add_options(app, options, {"img-size"});
    app.add_flag("--all", all, "a row per layer instead of a row per block");
    app.add_flag("--json", json, "JSON on standard output");
    sg::tools::parse(app, argc, argv);

    if (checkpoint.empty() && ema)
      sg::fail(sg::ExitCode::usage, "--ema and --no-ema choose weights of --checkpoint");
    sg::infer::ModelFile file;
    if (checkpoint.empty()) {
      file.model = std::make_unique<sg::sgformer::Classifier>(sg::train::model_config(options));
      file.model->parameters().allocate();
    } else {
      checkpoint = sg::infer::find_weights(checkpoint).string();
      file = read(checkpoint, name->count() ? options.model : "", ema, options);
    }
    const sg::sgformer::Classifier& model = *file.model;
    const nlohmann::json& state = file.state;
    const sg::sgformer::Config& config = model.config();
    const sg::ImageSize image = options.img_size.value_or(int(config.image));
    std::vector<LayerRow> rows;
    {
      const sg::autograd::NoGrad no_grad;
      const sg::nn::Trace trace;
      model.forward(sg::zeros({1, image.height, image.width, 3}));
      rows = trace.rows();
    }
    const LayerRow total = sum(rows);
    if (!all) rows = grouped(rows);
    const int64_t tensors = int64_t(model.parameters().names().size());
    const Decay decay = decayed(model.parameters());

    if (json) {
      nlohmann::json j{{"model", config.name},
                       {"classes", config.classes},
                       {"height", image.height},
                       {"width", image.width},
                       {"parameters", total.parameters},
                       {"macs", total.macs},
                       {"decayed_parameters", decay.parameters},
                       {"decayed_tensors", decay.tensors},
                       {"tensors", tensors}};
      if (!state.is_null()) j["checkpoint"] = state;
      for (const LayerRow& r : rows) j["layers"].push_back(to_json(r));
      fmt::print("{}\n", j.dump(2));
      return sg::ExitCode::ok;
    }
    fmt::print("{}, {} classes, one image of {}x{}\n\n", config.name, config.classes, image.height,
               image.width);
    print_table(rows, total);
    fmt::print("\n{} parameters in {} tensors, {} of them with weight decay; {:.3f} GMAC\n",
               grouped_digits(total.parameters), tensors, grouped_digits(decay.parameters),
               1e-9 * total.macs);
    if (!state.is_null()) {
      fmt::print("\ncheckpoint {}\n", sg::escape_odd_bytes(checkpoint));
      print_state(state);
    }
    return sg::ExitCode::ok;
  });
}
