// sgpredict: what a model sees in images.
#include <fmt/format.h>
#include <unistd.h>

#include "core/cpu/parallel.h"
#include "core/text.h"
#include "data/image_list.h"
#include "data/png_write.h"
#include "infer/dataset_predictor.h"
#include "infer/model_file.h"
#include "io/file.h"
#include "report/console.h"
#include "report/significance_image.h"
#include "setups/detection.h"
#include "tools/common/announce.h"
#include "tools/common/eval.h"
#include "tools/common/images.h"
#include "tools/common/options.h"
#include "tools/common/output_file.h"
#include "tools/common/predict.h"
#include "tools/common/predict_detection.h"
#include "tools/common/predict_segmentation.h"
#include "tools/common/unique_names.h"

namespace {

namespace fs = std::filesystem;
using sg::tools::ImageResult, sg::tools::ResultWriter;

constexpr int kMaxPanelPixels = 1024;  // a side

// OUT.png for one image, and OUT-<name>.png for several; of a folder OUT, OUT/<name>.png.
// Numbered where two have the same name.
class PanelPaths {
 public:
  PanelPaths(fs::path out, bool several)
      : out_(std::move(out)), folder_(out_.extension() != ".png"), several_(several) {
    if (!folder_) return;
    if (!out_.extension().empty() && !fs::is_directory(out_))
      sg::fail(sg::ExitCode::usage,
               "{}: --significance: expected a name in .png, or a folder with / behind its name",
               out_.string());
    std::error_code error;
    if (fs::create_directories(out_, error); error)
      sg::fail(sg::ExitCode::usage, "{}: --significance: the folder cannot be created: {}",
               out_.string(), error.message());
  }
  fs::path operator()(const std::string& image) {
    if (!folder_ && !several_) return out_;
    std::string stem = fs::path(image).stem().string();
    if (!folder_) stem = fmt::format("{}-{}", out_.stem().string(), stem);
    return (folder_ ? out_ : out_.parent_path()) / (unique_(stem, {".png"}) + ".png");
  }

 private:
  fs::path out_;
  bool folder_, several_;
  sg::tools::UniqueNames unique_;
};

// The maps over the image at its own resolution: what the network saw of it would be blurred.
void write_panel(const fs::path& path, const std::string& image,
                 const sg::data::TransformConfig& transform, const std::vector<sg::Tensor>& maps,
                 int64_t item) {
  std::vector<sg::Tensor> of_image;
  for (const sg::Tensor& m : maps)
    of_image.push_back(m.slice(item, item + 1).view({m.dim(1), m.dim(2)}));
  const sg::data::Image seen = sg::data::load_eval_region(image, transform, kMaxPanelPixels);
  sg::tools::write_png(path, sg::report::significance_panel(seen, of_image));
}

void print(const ImageResult& result) {
  fmt::print("{}\n", sg::escape_odd_bytes(result.image));
  for (const auto& g : result.classes)
    fmt::print("  {:6.2f} %  {}\n", 100 * g.probability,
               g.title.empty() ? g.name : fmt::format("{} ({})", g.title, g.name));
}

}  // namespace

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Tells the classes of images (any size), the most probable first; of a checkpoint of "
        "segmentation, writes the class of each pixel into the folder --output, of one of "
        "detection "
        "the objects, drawn over the image, and lists them. Images that cannot be read are named "
        "and counted, the others done, and the exit code is 3. A checkpoint of "
        "sgtrain knows its model; of weights alone say it with --model.");
    sg::train::Options shared;
    std::string checkpoint, significance, list, results_file, output;
    std::vector<std::string> arguments;
    std::optional<bool> ema;
    int64_t top = 5;
    double score = 0.3;
    bool json = false, csv = false;
    app.add_option("--checkpoint", checkpoint, "weights: .safetensors or .pth, or a run's folder")
        ->required();
    app.add_option("image", arguments,
                   "images; folders, for all images in them; @FILE, for the paths in it, a line "
                   "each; -, for those on standard input; after --, names that begin with -");
    app.add_option("--list", list, "a file of paths, a line each; - is standard input");
    shared.model.clear(), shared.batch_size = 16;
    sg::tools::add_options(app, shared, {"model", "img-size"});
    sg::tools::add_options(app, shared, sg::tools::kModelFlags);
    sg::tools::add_options(
        app, shared,
        {"class-map", "class-names", "batch-size", "device", "dtype", "threads", "workers"});
    sg::Bf16Emulation emulation;
    sg::tools::add_emulation_flag(app, emulation);
    sg::tools::add_ema_flags(app, ema);
    sg::tools::add_option(
        app, {.flags = "--top,--topk", .help = "classes to show", .low = 1, .high = 1 << 24}, top);
    app.add_option("--significance", significance,
                   "the image, and over it the significance map of each stage: OUT.png to write, "
                   "OUT-<name>.png for several images, or a folder of <name>.png; over files of "
                   "earlier calls alone");
    auto* json_flag = app.add_flag("--json", json, "a JSON array on standard output");
    app.add_flag("--csv", csv, "CSV on standard output, a row per class")->excludes(json_flag);
    app.add_option("--results-file", results_file,
                   "writes the results there: .csv, .json (an array) or .jsonl (an object a line)");
    app.add_option(
        "--output", output,
        "segmentation: a folder for <name>.png (a palette PNG whose numbers are those of "
        "the label images it was trained with), <name>-overlay.png (coloured, with a "
        "legend) and <name>-significance.png; detection: for <name>-objects.png; over files of "
        "earlier calls alone");
    app.add_option("--score", score, "detection: least score of an object")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    sg::tools::parse(app, argc, argv);
    if (!list.empty()) arguments.push_back(list == "-" ? list : "@" + list);
    if (arguments.empty())
      sg::fail(sg::ExitCode::usage, "image: expected images, folders, @FILE or -, found none");
    if (shared.threads) sg::set_num_threads(int(*shared.threads));
    const std::vector<std::string> paths_of_images = sg::tools::find_images(arguments);
    const auto images = std::make_shared<sg::data::ImageList>(paths_of_images);
    // What would be written over is known before anything is computed.
    std::vector<fs::path> panels, paths{checkpoint};
    for (const std::string& path : paths_of_images) paths.push_back(path);
    const sg::tools::InputFiles read(paths);
    if (!results_file.empty()) sg::tools::check_results_file(results_file, read);
    // Where results appear on the terminal one after the other they are the progress themselves.
    const bool text = !json && !csv && results_file.empty();
    const auto writers_of = [&](std::string_view columns) {
      std::vector<ResultWriter> writers;
      if (json || csv) writers.emplace_back(stdout, json ? ".json" : ".csv", columns);
      if (!results_file.empty()) writers.emplace_back(results_file, columns);
      return writers;
    };
    const std::string weights = sg::infer::find_weights(checkpoint).string();
    const std::string task = sg::infer::task_of(weights);
    if (task != sg::infer::kDetection) sg::tools::refuse_flags(app, {"--score"}, task);
    if (task == sg::infer::kDetection) {
      sg::tools::refuse_flags(
          app,
          {"--significance", "--img-size", "--batch-size", "--top", "--class-map", "--class-names"},
          task);
      if (output.empty())
        sg::fail(sg::ExitCode::usage,
                 "--output: expected a folder for the images with their objects, found none");
      const auto files = sg::tools::object_files(output, paths_of_images, read);
      const sg::Compute compute = sg::parse_compute(shared.device, shared.dtype, emulation);
      sg::setups::check_detection_device(compute.device);
      sg::tools::announce(compute);
      const auto file = sg::infer::load_detector(
          weights, {.ema = ema,
                    .model = shared.model,
                    .change = [&](auto config) { return sg::train::apply(shared, config); },
                    .compute = compute});
      sg::tools::announce(file);
      sg::report::Console console(text && ::isatty(STDOUT_FILENO), stderr);
      std::vector<ResultWriter> writers = writers_of(sg::tools::kObjectColumns);
      return sg::tools::predict_detection(file, weights,
                                          {.images = paths_of_images,
                                           .files = files,
                                           .score = score,
                                           .workers = sg::train::loading_threads(shared),
                                           .writers = writers},
                                          console);
    }
    if (task == sg::infer::kSegmentation) {
      sg::tools::refuse_flags(app, {"--significance", "--img-size", "--batch-size"},
                              "segmentation");
      if (output.empty())
        sg::fail(sg::ExitCode::usage,
                 "--output: expected a folder for the labels of the images, found none");
      const auto files = sg::tools::label_files(output, paths_of_images, read);
      const sg::Compute compute = sg::parse_compute(shared.device, shared.dtype, emulation);
      sg::tools::announce(compute);
      const auto file = sg::infer::load_segmentor(
          weights, {.ema = ema,
                    .model = shared.model,
                    .change = [&](auto config) { return sg::train::apply(shared, config); },
                    .compute = compute});
      sg::tools::announce(file);
      sg::report::Console console(text && ::isatty(STDOUT_FILENO), stderr);
      std::vector<ResultWriter> writers = writers_of(sg::tools::kShareColumns);
      return sg::tools::predict_segmentation(
          file, weights,
          {.images = paths_of_images,
           .files = files,
           .names = sg::train::known_classes(shared, file.class_names),
           .top = top,
           .workers = sg::train::loading_threads(shared),
           .writers = writers},
          console);
    }
    sg::tools::refuse_flags(app, {"--output"}, task);
    if (!significance.empty()) {
      PanelPaths panel_of(significance, images->size() > 1);
      for (int64_t i = 0; i < images->size(); ++i) {
        panels.push_back(panel_of(images->name(i)));
        sg::tools::check_output(panels.back(), read, sg::data::is_own_png);
      }
    }
    const sg::Compute compute = sg::parse_compute(shared.device, shared.dtype, emulation);
    sg::tools::announce(compute);

    const auto file = sg::infer::load_model(
        weights,
        {.ema = ema,
         .model = shared.model,
         .change = [&](auto config) { return sg::train::apply(shared, std::move(config)); },
         .compute = compute});
    sg::tools::announce(file);
    sg::infer::Preprocessing preprocessing = file.preprocessing;
    if (shared.img_size) preprocessing.transform.img_size = *shared.img_size;

    const sg::data::ClassNames names = sg::train::known_classes(shared, file.class_names);
    const sg::data::ClassTitles titles = shared.class_names.empty()
                                             ? file.class_titles
                                             : sg::data::read_class_titles(shared.class_names);
    sg::infer::DatasetPredictor predict(
        *file.model, images, preprocessing,
        {.batch_size = std::min(shared.batch_size, images->size()),
         .workers = images->size() > 1 ? sg::train::loading_threads(shared) : 0,
         .significance = !significance.empty(),
         .max_broken_share = 1});
    sg::report::Console console(text && ::isatty(STDOUT_FILENO), stderr);
    std::vector<ResultWriter> writers = writers_of(sg::tools::kGuessColumns);
    const sg::ExitCode code = sg::tools::predict_images(
        predict, *images,
        {.names = names,
         .titles = titles,
         .top = top,
         .seen =
             [&](int64_t index, int64_t item) {
               if (!significance.empty())
                 write_panel(panels[size_t(index)], images->name(index), preprocessing.transform,
                             predict.significance(), item);
             },
         .add =
             [&](const ImageResult& result) {
               if (text && result.error.empty()) print(result);
               for (ResultWriter& w : writers) w.add(result);
             },
         .batch_done =
             [&] {
               std::fflush(stdout);
               for (ResultWriter& w : writers) w.flush();
             }},
        console);
    for (ResultWriter& w : writers) w.finish();
    return code;
  });
}
