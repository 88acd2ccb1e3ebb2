// sgeval: how well a model does on the validation set of a folder of pictures.
#include <fmt/core.h>

#include "core/cpu/parallel.h"
#include "infer/model_file.h"
#include "report/console.h"
#include "tasks/classification.h"
#include "tools/common/model_options.h"
#include "train/progress.h"

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Evaluates a checkpoint: top-1 and top-5 accuracy in percent, and the cross entropy. A "
        "checkpoint of sgtrain knows its model and how its pictures are prepared; flags win.");
    sg::tools::ModelOptions model_options;
    sg::tasks::EvaluationSettings settings;
    std::string data, checkpoint, dtype = "auto", device = "cpu";
    std::optional<int64_t> img_size;
    std::optional<double> crop_pct;
    std::optional<bool> ema;
    std::vector<double> mean, std;
    int threads = 0;
    int64_t interval = 50;
    bool json = false;
    app.add_option("--data", data, "folder with val/ (or the classes themselves), or IDX files")
        ->required();
    app.add_option("--checkpoint", checkpoint, "weights: .safetensors or .pth")->required();
    app.add_option("--model", model_options.model, "for files of weights alone: the model's name");
    model_options.add_to(app);
    sg::tools::add_ema_flags(app, ema);
    app.add_option("-b,--batch-size", settings.batch_size, "images a forward pass")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("-j,--workers", settings.workers, "threads that load pictures")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    app.add_option("--threads", threads, "threads that compute; default: all cores")
        ->check(CLI::Range(1, 4096));
    app.add_option("--img-size", img_size, "pixels a side; default: the model's own")
        ->check(CLI::Range(1, 8192));
    app.add_option("--crop-pct", crop_pct, "share of the shorter side that is seen; default: 0.9")
        ->check(CLI::Range(0.01, 1.0));
    app.add_option("--mean", mean, "of red, green, blue; the full range is 1")->expected(3);
    app.add_option("--std", std, "of red, green, blue; the full range is 1")->expected(3);
    app.add_option("--log-interval", interval, "batches from one log line to the next")
        ->check(CLI::Range(1, 1 << 30))
        ->capture_default_str();
    app.add_option("--dtype", dtype, sg::kDtypeHelp)->capture_default_str();
    app.add_option("--device", device, sg::kDeviceHelp)->capture_default_str();
    app.add_flag("--json", json, "JSON on standard output");
    model_options.model.clear();
    sg::tools::parse(app, argc, argv);
    const sg::Compute compute = sg::parse_compute(device, dtype);
    if (threads) sg::set_num_threads(threads);

    sg::report::Console console(json);
    const auto file = sg::infer::load_model(
        checkpoint, {.ema = ema,
                     .model = model_options.model,
                     .change = [&](auto config) { return model_options.apply_to(config); },
                     .compute = compute});
    auto [transform, stats] = file.preprocessing;
    if (img_size) transform.img_size = int(*img_size);
    if (crop_pct) transform.crop_pct = *crop_pct;
    if (!mean.empty()) std::copy(mean.begin(), mean.end(), stats.mean.begin());
    if (!std.empty()) std::copy(std.begin(), std.end(), stats.std.begin());
    settings.transform = transform, settings.stats = stats;

    const std::shared_ptr<const sg::data::Dataset> dataset =
        sg::data::open_dataset(data, sg::data::Split::val, file.class_names);
    const int64_t classes = file.model->config().classes;
    if (file.class_names.empty() && dataset->num_classes() != classes)
      sg::fail(sg::ExitCode::data, "{}: {} classes, but the model has {}", data,
               dataset->num_classes(), classes);
    console.line(fmt::format("{}: {}{}, {} pictures seen at {} x {}", checkpoint,
                             file.model->config().name, file.ema ? " (averaged weights)" : "",
                             dataset->size(), settings.transform.img_size,
                             settings.transform.img_size));
    sg::tasks::Evaluator evaluate(*file.model, dataset, settings);
    const auto scores = *sg::train::evaluate_aloud(
        "Test", std::ref(evaluate), sg::tasks::classification_scores(), interval, console);
    console.line(" * " + sg::tasks::describe(sg::tasks::classification_scores(), scores));
    if (json)
      fmt::print("{}\n", nlohmann::json{{"top1", scores["top1"]},
                                        {"top5", scores["top5"]},
                                        {"loss", scores["loss"]},
                                        {"images", dataset->size()},
                                        {"model", file.model->config().name},
                                        {"ema", file.ema},
                                        {"checkpoint", checkpoint},
                                        {"version", SG_VERSION}}
                             .dump(2));
    return sg::ExitCode::ok;
  });
}
