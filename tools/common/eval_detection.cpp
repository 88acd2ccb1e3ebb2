#include <fmt/core.h>

#include "core/text.h"
#include "data/coco_folder.h"
#include "setups/detection.h"
#include "tasks/detection_evaluator.h"
#include "tools/common/announce.h"
#include "tools/common/detection.h"
#include "tools/common/eval.h"
#include "tools/common/eval_coco.h"
#include "tools/common/images.h"
#include "train/evaluation_progress.h"

namespace sg::tools {
namespace fs = std::filesystem;
namespace {

infer::ObjectDetectorSettings detector_of(const EvalRequest& request,
                                          const infer::DetectorFile& file, const CLI::App& app) {
  infer::ObjectDetectorSettings s = object_detector_of_run(file, request.weights);
  if (app.count("--mean")) s.stats.mean = request.options.mean;
  if (app.count("--std")) s.stats.std = request.options.std;
  if (const auto& scale = request.options.image_scale)
    s.scale = {.long_side = int((*scale)[0]), .short_side = int((*scale)[1])};
  return s;
}

// Classes are compared by their place, so they must be those of the weights.
void check_classes(const data::CocoDataset& dataset, const infer::DetectorFile& file,
                   const std::string& path) {
  const int64_t classes = file.model->config().heads.classes;
  if (dataset.num_classes() != classes)
    fail(ExitCode::data, "{}: {} classes, but the weights of {} have {}",
         dataset.annotations().file(), dataset.num_classes(), path, classes);
  for (size_t c = 0; c < std::min(file.class_names.size(), size_t(classes)); ++c)
    if (file.class_names[c] != dataset.class_names()[c])
      fail(ExitCode::data, "{}: class {} is '{}', and was '{}' where {} was trained",
           dataset.annotations().file(), c, dataset.class_names()[c], file.class_names[c], path);
}

// OUT.bbox.json and OUT.segm.json: with a box beside it, a mask would have the box's area.
struct ResultFiles {
  fs::path boxes, masks;
  explicit ResultFiles(const fs::path& path)
      : boxes(fs::path(path).replace_extension(".bbox.json")),
        masks(fs::path(path).replace_extension(".segm.json")) {
    if (path.extension() != ".json")
      fail(ExitCode::usage, "--results-file: of detection expected a name in .json, found '{}'",
           path.string());
  }
};

void write_results(const ResultFiles& files, const tasks::DetectionEvaluator& evaluate,
                   const data::CocoDataset& dataset) {
  ResultWriter boxes(files.boxes, ""), masks(files.masks, "");
  const std::vector<int64_t>& ids = dataset.annotations().category_ids();
  for (const auto& [i, objects] : evaluate.found()) {
    const int64_t image = dataset.annotations().image(dataset.image(i)).id;
    for (const infer::FoundObject& o : objects) {
      boxes.add(coco_result(o, image, ids[size_t(o.label)], ResultKind::box), "");
      masks.add(coco_result(o, image, ids[size_t(o.label)], ResultKind::mask), "");
    }
  }
  boxes.finish(), masks.finish();
}

}  // namespace

ExitCode eval_detection(const CLI::App& app, const EvalRequest& request, report::Console& console) {
  refuse_flags(
      app,
      {"--topk", "--confusion", "--crop-pct", "--img-size", "--batch-size", "--class-map",
       "--class-order", "--val-share", "--seed", "--num-classes", "--head", "--ignore-index",
       "--reduce-zero-label", "--ms", "--flip", "--slide", "--keep-ratio"},
      "detection");
  setups::check_detection_device(request.compute.device);
  const std::string& path = request.weights;
  std::optional<ResultFiles> files;
  if (!request.results_file.empty()) {
    files.emplace(request.results_file);
    for (const fs::path& file : {files->boxes, files->masks}) check_results_file(file, {path});
  }
  const auto file = infer::load_detector(
      path, {.ema = request.ema,
             .model = request.options.model,
             .change = [&](auto config) { return train::apply(request.options, config); },
             .compute = request.compute});
  announce(file);
  std::string split = request.options.val_split;
  if (!app.count("--val-split")) take_of_run(file.state, "val_split", split, path);
  const auto dataset = data::open_coco_folder(request.options.data, split, false);
  check_classes(*dataset, file, path);
  const infer::ObjectDetectorSettings settings = detector_of(request, file, app);
  const std::string how = infer::describe(settings);
  const std::string model = file.model->config().backbone.name + " with Mask R-CNN";
  console.line(fmt::format("{}: {}{}, {} images {}", path, model,
                           file.ema ? " (averaged weights)" : "", dataset->size(), how));
  tasks::DetectionEvaluator evaluate(*file.model, dataset,
                                     {.detector = settings,
                                      .workers = train::loading_threads(request.options),
                                      .max_broken_share = request.options.max_broken_share,
                                      .keep = files.has_value()});
  const auto scores = train::evaluate_with_progress(
      "Test", std::ref(evaluate), tasks::detection_scores(), request.options.log_interval, console);
  if (!scores) return ExitCode::interrupted;
  if (files) write_results(*files, evaluate, *dataset);
  const data::CocoAnnotations& truth = dataset->annotations();
  if (!request.json) {
    console.line("");  // the bar is done
    fmt::print(" * box_AP {:.2f} mask_AP {:.2f}\n\nboxes\n", (*scores)["box_AP"],
               (*scores)["mask_AP"]);
    print_coco_scores(evaluate.boxes(), truth, request.per_class);
    fmt::print("\nmasks\n");
    print_coco_scores(evaluate.masks(), truth, request.per_class);
  }
  if (evaluate.skipped())
    console.warning(fmt::format("{} of {} images could not be read; nothing was found in them",
                                evaluate.skipped(), dataset->size()));
  if (request.json) {
    nlohmann::json j{{"bbox", coco_scores_json(evaluate.boxes(), truth, request.per_class)},
                     {"segm", coco_scores_json(evaluate.masks(), truth, request.per_class)},
                     {"images", evaluate.images()},
                     {"skipped", nlohmann::json::array()},
                     {"resize", how},
                     {"model", model},
                     {"ema", file.ema},
                     {"checkpoint", escape_name(path)},
                     {"version", SG_VERSION}};
    for (const auto& [i, why] : evaluate.broken())
      j["skipped"].push_back(
          {{"image", escape_name(dataset->name(i))}, {"error", escape_odd_bytes(why)}});
    fmt::print("{}\n", j.dump(2));
  }
  return ExitCode::ok;
}

}  // namespace sg::tools
