#include <fmt/core.h>

#include <algorithm>

#include "core/text.h"
#include "data/image_list.h"
#include "infer/model_file.h"
#include "io/file.h"
#include "tasks/classification.h"
#include "tools/common/announce.h"
#include "tools/common/confusion_file.h"
#include "tools/common/eval.h"
#include "tools/common/images.h"
#include "tools/common/options.h"
#include "tools/common/predict.h"
#include "tools/common/table.h"
#include "train/evaluation_progress.h"

namespace sg::tools {
namespace fs = std::filesystem;
namespace {

// The numbers in "1,5", each at least 1.
std::vector<int64_t> parse_topk(const std::string& text) {
  std::vector<int64_t> all;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const auto k = parse_integer(std::string_view(text).substr(begin, end - begin));
    if (!k || *k < 1)
      fail(ExitCode::usage, "--topk: expected whole numbers from 1, as in 1 5, found '{}'", text);
    if (std::ranges::find(all, *k) == all.end()) all.push_back(*k);
    begin = end + 1;
  }
  return all;
}

// A folder that holds images alone: there is nothing to compare predictions with.
bool is_unlabelled(const std::string& folder) {
  std::error_code absent;
  if (!fs::is_directory(folder, absent)) return false;
  bool images = false, others = false;
  data::list_folder(folder, [&](const std::string& name, bool is_folder) {
    others |= is_folder || name.ends_with("-ubyte") || name.ends_with("-ubyte.gz") ||
              name.ends_with(".tar");
    images = true;
  });
  return images && !others;
}

nlohmann::json per_class_json(const std::vector<tasks::Outcome>& outcomes,
                              const std::vector<std::string>& names) {
  nlohmann::json array = nlohmann::json::array();
  for (const auto& [label, count] : tasks::counts_by_label(outcomes))
    array.push_back({{"class", data::class_name(names, label)},
                     {"images", count.images},
                     {"top1", 100 * double(count.right) / double(count.images)}});
  return array;
}

// Which images are held out is the run's own choice, unless flags say otherwise: else the scores
// would be of images that it was trained on. Says so, and warns of flags that differ from the run.
void take_split_of_run(train::Options& o, const CLI::App& app, const infer::ModelFile& file,
                       const std::string& checkpoint, report::Console& console) {
  const auto take = [&](const char* flag, const char* key, auto& value) {
    auto of_run = value;
    if (!take_of_run(file.state, key, of_run, checkpoint)) return;
    if (app.count(flag) == 0)
      value = of_run;
    else if (value != of_run)
      console.warning(
          fmt::format("{} {}: {} was trained with {}; it may have been trained on images that are "
                      "evaluated now",
                      flag, value, checkpoint, of_run));
  };
  take("--train-split", "train_split", o.train_split);
  take("--val-split", "val_split", o.val_split);
  take("--val-share", "val_share", o.val_share);
  if (app.count("--val-share") == 0 && o.val_share > 0 &&
      data::has_validation_set(o.data, train::dataset_request(o)))
    o.val_share = 0;  // the run was of other data
  if (o.val_share == 0) return;
  take("--seed", "seed", o.seed);
  if (app.count("--val-share") == 0 && app.count("--seed") == 0)
    console.line(fmt::format(
        "{}: evaluating the images that the run held out (--val-share {} --seed {}); --val-share 0 "
        "evaluates all",
        o.data, o.val_share, o.seed));
}

// The classes of the checkpoint, of --class-map, or of the data.
data::DatasetRequest request_of(const train::Options& o, const data::ClassNames& of_checkpoint) {
  data::DatasetRequest request = train::dataset_request(o);
  request.classes = train::known_classes(o, of_checkpoint);
  if (request.classes.empty()) request.classes = data::list_classes(o.data, request);
  return request;
}

// Predictions of images whose classes nobody knows, as sgpredict makes them.
ExitCode predict_alone(const infer::ModelFile& file, const tasks::EvaluationSettings& settings,
                       const std::string& folder, const std::vector<ResultWriter*>& writers,
                       int64_t top, report::Console& console) {
  const data::ImageList images(data::images_below(folder));
  console.line(
      fmt::format("{}: {} images without sub-folders of classes: nothing to evaluate, "
                  "predictions alone",
                  folder, images.size()));
  infer::DatasetPredictor predict(*file.model, std::make_shared<data::ImageList>(images),
                                  {settings.transform, settings.stats},
                                  {.batch_size = std::min(settings.batch_size, images.size()),
                                   .workers = settings.workers,
                                   .max_broken_share = settings.max_broken_share});
  const ExitCode code = predict_images(predict, images,
                                       {.names = file.class_names,
                                        .titles = file.class_titles,
                                        .top = top,
                                        .add =
                                            [&](const ImageResult& result) {
                                              for (ResultWriter* w : writers) w->add(result);
                                            },
                                        .batch_done =
                                            [&] {
                                              for (ResultWriter* w : writers) w->flush();
                                            }},
                                       console);
  for (ResultWriter* w : writers) w->finish();
  return code;
}

}  // namespace

ExitCode eval_classification(const CLI::App& app, const EvalRequest& request,
                             report::Console& console) {
  refuse_flags(app,
               {"--head", "--ms", "--flip", "--slide", "--keep-ratio", "--image-scale",
                "--ignore-index", "--reduce-zero-label"},
               "classification");
  train::Options shared = request.options;
  const auto& [json, per_class] = std::tie(request.json, request.per_class);
  const std::string &path = request.weights, &results_file = request.results_file,
                    &confusion = request.confusion;
  const std::vector<int64_t> ks = parse_topk(request.topk);
  const auto file =
      infer::load_model(path, {.ema = request.ema,
                               .model = shared.model,
                               .change = [&](auto config) { return train::apply(shared, config); },
                               .compute = request.compute});
  announce(file);
  auto [transform, stats] = file.preprocessing;
  if (shared.img_size) transform.img_size = *shared.img_size;
  if (shared.crop_pct) transform.crop_pct = *shared.crop_pct;
  if (app.count("--mean")) stats.mean = shared.mean;
  if (app.count("--std")) stats.std = shared.std;
  tasks::EvaluationSettings settings{shared.batch_size, train::loading_threads(shared),
                                     shared.max_broken_share, transform, stats};

  if (is_unlabelled(shared.data) &&
      !data::has_validation_set(shared.data, train::dataset_request(shared))) {
    if (per_class || !confusion.empty())
      fail(ExitCode::usage,
           "{}: has no sub-folders of classes, so there is nothing to evaluate; leave out "
           "--per-class and --confusion",
           shared.data);
    if (results_file.empty() && !json)
      fail(ExitCode::usage,
           "{}: has no sub-folders of classes, so there is nothing to evaluate; --results-file F "
           "and --json write predictions",
           shared.data);
    // As sgpredict, which goes on whatever is broken, unless told otherwise.
    if (!app.count("--max-broken-share")) settings.max_broken_share = 1;
    std::optional<ResultWriter> to_file, to_output;
    std::vector<ResultWriter*> writers;
    if (!results_file.empty()) writers.push_back(&to_file.emplace(results_file));
    if (json) writers.push_back(&to_output.emplace(stdout, ".json"));
    return predict_alone(file, settings, shared.data, writers, std::ranges::max(ks), console);
  }
  take_split_of_run(shared, app, file, path, console);
  const data::DatasetRequest wanted = request_of(shared, file.class_names);
  const std::shared_ptr<const data::Dataset> dataset =
      data::open_dataset(shared.data, data::Split::val, wanted);
  const int64_t classes = file.model->config().classes;
  if (file.class_names.empty() && dataset->num_classes() != classes)
    fail(ExitCode::data,
         "{}: {} classes, but the weights of {} have {}; --class-map names those of the weights, "
         "and sgtrain --initial-checkpoint {} --reset-head trains a new head",
         shared.data, dataset->num_classes(), path, classes, path);
  std::vector<std::string> remarks = dataset->remarks();
  if (file.class_names.empty() && shared.class_map.empty() && !wanted.classes.empty())
    remarks.push_back(fmt::format(
        "class order: {}, {} (--class-order, --class-map)", shared.class_order,
        app.count("--class-order") ? "as given"
                                   : "as timm counts, since the weights name no classes"));
  say_remarks(remarks, console);
  console.line(fmt::format("{}: {}{}, {} images seen at {} x {}", path, file.model->config().name,
                           file.ema ? " (averaged weights)" : "", dataset->size(),
                           transform.img_size.height, transform.img_size.width));
  tasks::Evaluator evaluate(*file.model, dataset, settings);
  const auto scores = *train::evaluate_with_progress(
      "Test", std::ref(evaluate), tasks::classification_scores(), shared.log_interval, console);
  if (!scores.finite())
    fail(ExitCode::nonfinite, "{}: the loss is not finite: {}", path,
         cause_of(file.model->parameters()));
  const std::vector<tasks::Outcome>& outcomes = evaluate.outcomes();
  std::vector<double> accuracies;
  for (const int64_t k : ks)
    accuracies.push_back(outcomes.empty() ? 0
                                          : 100 * double(tasks::top_k_hits(outcomes, k)) /
                                                double(outcomes.size()));
  std::string line = " *";
  for (size_t i = 0; i < ks.size(); ++i)
    line += fmt::format(" Acc@{} {:.3f}", ks[i], accuracies[i]);
  if (!json) {
    console.line("");  // the bar is done
    // Not by the console, which goes on where nothing can be written.
    fmt::print("{} loss {:.3f}\n", line, scores["loss"]);
  }
  if (evaluate.skipped())
    console.warning(fmt::format("{} of {} images could not be read; the scores are of the other {}",
                                evaluate.skipped(), dataset->size(), evaluate.images()));

  const std::vector<std::string>& names = dataset->class_names();
  if (!confusion.empty())
    write_confusion(confusion, tasks::confusion_matrix(outcomes, names, classes));
  if (per_class && !json) print(tasks::accuracy_by_class(outcomes, names));
  if (!results_file.empty()) {
    ResultWriter results(results_file);
    for (const tasks::Outcome& o : outcomes)
      results.add(
          {.image = dataset->name(o.index),
           .classes = {{o.predicted, data::class_name(names, o.predicted), "", o.probability}},
           .label = data::class_name(names, o.label),
           .error = {}});
    for (const auto& [i, message] : evaluate.broken())
      results.add({.image = dataset->name(i), .classes = {}, .label = {}, .error = message});
    results.finish();
  }
  if (json) {
    nlohmann::json j{{"loss", scores["loss"]},
                     {"images", evaluate.images()},
                     {"skipped", evaluate.skipped()},
                     {"remarks", remarks},
                     {"model", file.model->config().name},
                     {"ema", file.ema},
                     {"checkpoint", escape_name(path)},
                     {"version", SG_VERSION}};
    for (size_t i = 0; i < ks.size(); ++i) j[fmt::format("top{}", ks[i])] = accuracies[i];
    if (per_class) j["per_class"] = per_class_json(outcomes, names);
    fmt::print("{}\n", j.dump(2));
  }
  return ExitCode::ok;
}

}  // namespace sg::tools
