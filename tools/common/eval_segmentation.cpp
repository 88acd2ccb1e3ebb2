#include <fmt/core.h>

#include <cmath>

#include "core/text.h"
#include "tasks/segmentation_evaluator.h"
#include "tools/common/announce.h"
#include "tools/common/confusion_file.h"
#include "tools/common/eval.h"
#include "tools/common/segmentation.h"
#include "tools/common/table.h"
#include "train/evaluation_progress.h"

namespace sg::tools {
namespace {

infer::SegmenterSettings segmenter_of(const EvalRequest& request, const infer::SegmentorFile& file,
                                      const CLI::App& app) {
  infer::SegmenterSettings s = segmenter_of_run(file, request.weights);
  if (app.count("--mean")) s.stats.mean = request.options.mean;
  if (app.count("--std")) s.stats.std = request.options.std;
  if (const auto& scale = request.options.image_scale)
    s.scale = {.long_side = int((*scale)[0]), .short_side = int((*scale)[1])};
  if (!request.slide.empty()) s.slide = parse_slide(request.slide);
  if (request.ms) s.ratios = infer::kTestRatios;
  s.flip = request.flip;
  if (request.keep_ratio) s.align = 1;
  return s;
}

// What the labels mean is the run's own choice, unless flags say otherwise.
data::SegmentationRequest data_of(const EvalRequest& request, const infer::SegmentorFile& file,
                                  const CLI::App& app) {
  data::SegmentationRequest d;
  d.val_split = request.options.val_split, d.train_split = request.options.train_split;
  if (!app.count("--val-split")) take_of_run(file.state, "val_split", d.val_split, request.weights);
  d.class_map = request.options.class_map;
  take_of_run(file.state, "ignore_index", d.ignore_index, request.weights);
  take_of_run(file.state, "reduce_zero_label", d.reduce_zero_label, request.weights);
  if (request.options.ignore_index) d.ignore_index = int(*request.options.ignore_index);
  if (app.count("--reduce-zero-label")) d.reduce_zero_label = request.options.reduce_zero_label;
  return d;
}

// Numbers in the label images say which class is meant, so that names are for people alone.
void check_classes(const data::SegmentationDataset& dataset, const infer::SegmentorFile& file,
                   const std::string& path, report::Console& console) {
  const int64_t classes = file.model->config().classes;
  const data::ClassNames &of_data = dataset.class_names(), &of_run = file.class_names;
  if (dataset.num_classes() != classes)
    fail(ExitCode::data,
         "{} classes of the data, but the weights of {} have {}; --class-map names those of the "
         "weights",
         dataset.num_classes(), path, classes);
  for (size_t c = 0; c < of_run.size() && c < of_data.size(); ++c)
    if (of_run[c] != of_data[c])
      return console.warning(fmt::format(
          "class {} is '{}' in the data, and was '{}' where {} was trained; labels are compared by "
          "number",
          c, of_data[c], of_run[c], path));
}

nlohmann::json number(double share) {
  return std::isnan(share) ? nlohmann::json() : nlohmann::json(100 * share);
}

nlohmann::json per_class_json(const tasks::PixelConfusion& confusion,
                              const data::ClassNames& names) {
  nlohmann::json array = nlohmann::json::array();
  for (int64_t c = 0; c < confusion.classes(); ++c) {
    const tasks::ClassPixels pixels = confusion.of(c);
    array.push_back({{"class", data::class_name(names, c)},
                     {"pixels", pixels.labelled},
                     {"predicted", pixels.predicted},
                     {"right", pixels.right},
                     {"iou", number(pixels.iou())},
                     {"accuracy", number(pixels.accuracy())}});
  }
  return array;
}

}  // namespace

ExitCode eval_segmentation(const CLI::App& app, const EvalRequest& request,
                           report::Console& console) {
  refuse_flags(app,
               {"--topk", "--results-file", "--crop-pct", "--img-size", "--val-share", "--seed",
                "--class-order", "--batch-size", "--num-classes"},
               "segmentation");
  const std::string& path = request.weights;
  const auto file = infer::load_segmentor(
      path, {.ema = request.ema,
             .model = request.options.model,
             .change = [&](auto config) { return train::apply(request.options, config); },
             .compute = request.compute});
  announce(file);
  const std::string head = sgformer::name_of(file.model->config().head);
  if (!request.options.head.empty() && request.options.head != head)
    fail(ExitCode::usage, "--head: {} has {}, expected {}", path, head, request.options.head);
  const auto dataset = std::make_shared<data::SegmentationDataset>(
      request.options.data, data::Split::val, data_of(request, file, app));
  check_classes(*dataset, file, path, console);
  std::vector<std::string> remarks = dataset->remarks();
  say_remarks(remarks, console);
  const infer::SegmenterSettings segmenter = segmenter_of(request, file, app);
  const std::string how = infer::describe(segmenter);
  const std::string model = fmt::format("{} with {}", file.model->config().backbone.name, head);
  console.line(fmt::format("{}: {}{}, {} images {}", path, model,
                           file.ema ? " (averaged weights)" : "", dataset->size(), how));
  tasks::SegmentationEvaluator evaluate(*file.model, dataset,
                                        {.segmenter = segmenter,
                                         .workers = train::loading_threads(request.options),
                                         .max_broken_share = request.options.max_broken_share});
  const auto scores =
      *train::evaluate_with_progress("Test", std::ref(evaluate), tasks::segmentation_scores(),
                                     request.options.log_interval, console);
  if (!scores.finite())
    fail(ExitCode::nonfinite, "{}: the logits are not finite: {}", path,
         cause_of(file.model->parameters()));
  const tasks::PixelConfusion& confusion = evaluate.confusion();
  const data::ClassNames& names = dataset->class_names();
  if (!request.json) {
    console.line("");  // the bar is done
    // Not by the console, which goes on where nothing can be written.
    fmt::print(" * mIoU {:.2f} mAcc {:.2f} aAcc {:.2f} loss {:.3f}\n", scores["mIoU"],
               scores["mAcc"], scores["aAcc"], scores["loss"]);
    print(tasks::scores_by_class(confusion, names));
  }
  if (evaluate.skipped())
    console.warning(
        fmt::format("{} of {} images could not be read, or had no label of their size; the scores "
                    "are of the other {}",
                    evaluate.skipped(), dataset->size(), evaluate.images()));
  if (!request.confusion.empty())
    write_confusion(request.confusion, tasks::pixel_matrix(confusion, names));
  if (request.json) {
    nlohmann::json j{{"mIoU", scores["mIoU"]},
                     {"mAcc", scores["mAcc"]},
                     {"aAcc", scores["aAcc"]},
                     {"loss", scores["loss"]},
                     {"pixels", confusion.pixels()},
                     {"images", evaluate.images()},
                     {"skipped", nlohmann::json::array()},
                     {"resize", how},
                     {"remarks", remarks},
                     {"model", model},
                     {"ema", file.ema},
                     {"checkpoint", escape_name(path)},
                     {"version", SG_VERSION}};
    for (const auto& [i, why] : evaluate.broken())
      j["skipped"].push_back(
          {{"image", escape_name(dataset->name(i))}, {"error", escape_odd_bytes(why)}});
    if (request.per_class) j["per_class"] = per_class_json(confusion, names);
    fmt::print("{}\n", j.dump(2));
  }
  return ExitCode::ok;
}

}  // namespace sg::tools
