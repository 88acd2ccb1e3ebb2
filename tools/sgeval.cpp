// sgeval: how well a model does on the validation set of a folder of images.
#include <fmt/core.h>

#include "core/cpu/parallel.h"
#include "infer/model_file.h"
#include "io/checkpoint.h"
#include "report/console.h"
#include "tasks/classification.h"
#include "tools/common/options.h"
#include "train/evaluate.h"

namespace {

// Why a model gives no finite numbers.
std::string cause_of(const sg::nn::ParameterStore& parameters) {
  std::vector<sg::NamedTensor> weights;
  for (const std::string& name : parameters.names())
    weights.emplace_back(name, parameters.get(parameters.values(), name));
  const std::string name = sg::first_not_finite(weights);
  return name.empty() ? "its weights are finite, but so large that what they compute is not"
                      : fmt::format("tensor '{}' holds values that are not finite", name);
}

}  // namespace

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Evaluates a checkpoint: top-1 and top-5 accuracy in percent, and the cross entropy. A "
        "checkpoint of sgtrain knows its model and how its images are prepared; flags win. Of "
        "weights alone say with --model what model they are of. --data may also be the folder of "
        "the classes itself.");
    sg::train::Options shared;
    std::string checkpoint;
    std::optional<bool> ema;
    bool json = false;
    app.add_option("--checkpoint", checkpoint, "weights: .safetensors or .pth")->required();
    sg::tools::add_ema_flags(app, ema);
    shared.model.clear();
    sg::tools::add_options(app, shared, {"model", "img-size"});
    sg::tools::add_options(app, shared, sg::tools::kModelFlags);
    sg::tools::add_options(app, shared,
                           {"data", "crop-pct", "mean", "std", "batch-size", "device", "dtype",
                            "threads", "workers", "log-interval"});
    app.get_option("--data")->required();
    for (const char* of_checkpoint : {"--mean", "--std"})
      app.get_option(of_checkpoint)->default_str("");
    app.add_flag("--json", json, "JSON on standard output");
    sg::tools::parse(app, shared, argc, argv);
    const sg::Compute compute = sg::parse_compute(shared.device, shared.dtype);
    sg::tools::announce(compute);
    if (shared.threads) sg::set_num_threads(int(*shared.threads));

    sg::report::Console console(json);
    const auto file = sg::infer::load_model(
        checkpoint, {.ema = ema,
                     .model = shared.model,
                     .change = [&](auto config) { return sg::train::apply(shared, config); },
                     .compute = compute});
    auto [transform, stats] = file.preprocessing;
    if (shared.img_size) transform.img_size = int(*shared.img_size);
    if (shared.crop_pct) transform.crop_pct = *shared.crop_pct;
    if (app.count("--mean")) stats.mean = shared.mean;
    if (app.count("--std")) stats.std = shared.std;
    const sg::tasks::EvaluationSettings settings{shared.batch_size, shared.workers, transform,
                                                 stats};

    const std::shared_ptr<const sg::data::Dataset> dataset =
        sg::data::open_dataset(shared.data, sg::data::Split::val, file.class_names);
    const int64_t classes = file.model->config().classes;
    if (file.class_names.empty() && dataset->num_classes() != classes)
      sg::fail(sg::ExitCode::data, "{}: {} classes, but the model has {}", shared.data,
               dataset->num_classes(), classes);
    console.line(fmt::format("{}: {}{}, {} images seen at {} x {}", checkpoint,
                             file.model->config().name, file.ema ? " (averaged weights)" : "",
                             dataset->size(), settings.transform.img_size,
                             settings.transform.img_size));
    sg::tasks::Evaluator evaluate(*file.model, dataset, settings);
    const auto scores = *sg::train::evaluate_with_progress("Test", std::ref(evaluate),
                                                           sg::tasks::classification_scores(),
                                                           shared.log_interval, console);
    if (!scores.finite())
      sg::fail(sg::ExitCode::nonfinite, "{}: the loss is not finite: {}", checkpoint,
               cause_of(file.model->parameters()));
    if (evaluate.skipped())
      console.warning(
          fmt::format("{} of {} images could not be read; the scores are of the other {}",
                      evaluate.skipped(), dataset->size(), evaluate.images()));
    console.line(" * " + sg::tasks::describe(sg::tasks::classification_scores(), scores));
    if (json)
      fmt::print("{}\n", nlohmann::json{{"top1", scores["top1"]},
                                        {"top5", scores["top5"]},
                                        {"loss", scores["loss"]},
                                        {"images", evaluate.images()},
                                        {"skipped", evaluate.skipped()},
                                        {"model", file.model->config().name},
                                        {"ema", file.ema},
                                        {"checkpoint", checkpoint},
                                        {"version", SG_VERSION}}
                             .dump(2));
    return sg::ExitCode::ok;
  });
}
