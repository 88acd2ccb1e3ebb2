// sgeval: how well a model does on the validation set of a folder of images.
#include <fmt/core.h>

#include "core/cpu/parallel.h"
#include "core/text.h"
#include "infer/model_file.h"
#include "report/console.h"
#include "tasks/classification.h"
#include "tools/common/options.h"
#include "train/evaluate.h"

namespace {

// The classes of the checkpoint, of --class-map, or of the data.
sg::data::DatasetRequest request_of(const sg::train::Options& o,
                                    const sg::data::ClassNames& of_checkpoint) {
  sg::data::DatasetRequest request = sg::train::dataset_request(o);
  request.classes = sg::train::known_classes(o, of_checkpoint);
  if (request.classes.empty()) request.classes = sg::data::list_classes(o.data, request);
  return request;
}

}  // namespace

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Evaluates a checkpoint: top-1 and top-5 accuracy in percent, and the cross entropy. A "
        "checkpoint of sgtrain knows its model and how its images are prepared; flags win. Of "
        "weights alone say with --model what model they are of. --data may also be the folder of "
        "the classes itself. A checkpoint of sgtrain knows its classes; weights alone are taken to "
        "count them in timm's natural order unless --class-map or --class-order says otherwise.");
    sg::train::Options shared;
    std::string checkpoint;
    std::optional<bool> ema;
    bool json = false;
    app.add_option("--checkpoint", checkpoint, "weights: .safetensors or .pth")->required();
    sg::tools::add_ema_flags(app, ema);
    shared.model.clear();
    shared.class_order = "natural";  // who names no classes is timm
    sg::tools::add_options(app, shared, {"model", "img-size"});
    sg::tools::add_options(app, shared, sg::tools::kModelFlags);
    sg::tools::add_options(app, shared,
                           {"data", "train-split", "val-split", "val-share", "seed", "class-map",
                            "class-order", "max-broken-share", "crop-pct", "mean", "std",
                            "batch-size", "device", "dtype", "threads", "workers", "log-interval"});
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
    const sg::tasks::EvaluationSettings settings{shared.batch_size, shared.workers,
                                                 shared.max_broken_share, transform, stats};

    const sg::data::DatasetRequest request = request_of(shared, file.class_names);
    const std::shared_ptr<const sg::data::Dataset> dataset =
        sg::data::open_dataset(shared.data, sg::data::Split::val, request);
    const int64_t classes = file.model->config().classes;
    if (file.class_names.empty() && dataset->num_classes() != classes)
      sg::fail(sg::ExitCode::data,
               "{}: {} classes, but the model has {}; --class-map names those of the model",
               shared.data, dataset->num_classes(), classes);
    std::vector<std::string> remarks = dataset->remarks();
    if (file.class_names.empty() && shared.class_map.empty() && !request.classes.empty())
      remarks.push_back(fmt::format(
          "class order: {}, {} (--class-order, --class-map)", shared.class_order,
          app.count("--class-order") ? "as given"
                                     : "as timm counts, since the weights name no classes"));
    for (std::string& remark : remarks) {
      remark = sg::escape_odd_bytes(remark);
      console.line(remark);
    }
    console.line(fmt::format("{}: {}{}, {} images seen at {} x {}", checkpoint,
                             file.model->config().name, file.ema ? " (averaged weights)" : "",
                             dataset->size(), settings.transform.img_size,
                             settings.transform.img_size));
    sg::tasks::Evaluator evaluate(*file.model, dataset, settings);
    const auto scores = *sg::train::evaluate_with_progress("Test", std::ref(evaluate),
                                                           sg::tasks::classification_scores(),
                                                           shared.log_interval, console);
    console.line(" * " + sg::tasks::describe(sg::tasks::classification_scores(), scores));
    if (json)
      fmt::print("{}\n", nlohmann::json{{"top1", scores["top1"]},
                                        {"top5", scores["top5"]},
                                        {"loss", scores["loss"]},
                                        {"images", dataset->size()},
                                        {"remarks", remarks},
                                        {"model", file.model->config().name},
                                        {"ema", file.ema},
                                        {"checkpoint", sg::escape_name(checkpoint)},
                                        {"version", SG_VERSION}}
                             .dump(2));
    return sg::ExitCode::ok;
  });
}
