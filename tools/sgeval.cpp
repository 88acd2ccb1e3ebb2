// sgeval: how well a model does on the validation set of a folder of images.
#include <fmt/core.h>

#include "core/cpu/parallel.h"
#include "core/text.h"
#include "data/image_list.h"
#include "data/png_write.h"
#include "infer/model_file.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "report/console.h"
#include "report/matrix_image.h"
#include "tasks/classification.h"
#include "tools/common/announce.h"
#include "tools/common/images.h"
#include "tools/common/options.h"
#include "tools/common/output_file.h"
#include "tools/common/predict.h"
#include "tools/common/timm.h"
#include "train/evaluation_progress.h"

namespace {

namespace fs = std::filesystem;
using namespace sg;
using tools::ImageResult;

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

void print(const Table& table) {
  std::vector<size_t> widths;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    widths.push_back(table.columns[c].size());
    for (const auto& row : table.rows) widths[c] = std::max(widths[c], row[c].size());
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t c = 0; c < cells.size(); ++c)
      text += c == 0 || c + 1 == cells.size() ? fmt::format("{:<{}}  ", cells[c], widths[c])
                                              : fmt::format("{:>{}}  ", cells[c], widths[c]);
    fmt::print("{}\n", text.substr(0, text.find_last_not_of(' ') + 1));
  };
  line(table.columns);
  for (const auto& row : table.rows) line(row);
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
  if (!file.state.contains("args")) return;
  const nlohmann::json& args = file.state["args"];
  const auto take = [&](const char* flag, const char* key, auto& value) {
    auto of_run = value;
    try {
      of_run = args.value(key, value);
    } catch (const nlohmann::json::exception& e) {
      fail(ExitCode::checkpoint, "{}: {}: {}; it is of another version", checkpoint, key, e.what());
    }
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

// Why a model gives no finite numbers.
std::string cause_of(const nn::ParameterStore& parameters) {
  std::vector<NamedTensor> weights;
  for (const std::string& name : parameters.names())
    weights.emplace_back(name, parameters.get(parameters.values(), name));
  const std::string name = first_not_finite(weights);
  return name.empty() ? "its weights are finite, but so large that what they compute is not"
                      : fmt::format("tensor '{}' holds values that are not finite", name);
}

// Predictions of images whose classes nobody knows, as sgpredict makes them.
ExitCode predict_alone(const infer::ModelFile& file, const tasks::EvaluationSettings& settings,
                       const std::string& folder, const std::vector<tools::ResultWriter*>& writers,
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
  const ExitCode code = tools::predict_images(predict, images,
                                              {.names = file.class_names,
                                               .titles = file.class_titles,
                                               .top = top,
                                               .add =
                                                   [&](const ImageResult& result) {
                                                     for (tools::ResultWriter* w : writers)
                                                       w->add(result);
                                                   },
                                               .batch_done =
                                                   [&] {
                                                     for (tools::ResultWriter* w : writers)
                                                       w->flush();
                                                   }},
                                              console);
  for (tools::ResultWriter* w : writers) w->finish();
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  return tools::run([&] {
    CLI::App app(
        "Evaluates a checkpoint: top-1 and top-5 accuracy in percent, and the cross entropy. A "
        "checkpoint of sgtrain knows its model and how its images are prepared; flags win. Of "
        "weights alone say with --model what model they are of. --data may also be the folder of "
        "the classes itself, or of images alone, of which --results-file or --json holds "
        "predictions; "
        "the exit code is 3 where some of them cannot be read. A checkpoint of sgtrain knows its "
        "classes; weights alone are taken to count them in timm's "
        "natural order unless --class-map or --class-order says otherwise.");
    train::Options shared;
    std::string checkpoint, topk = "1,5", results_file, confusion;
    std::optional<bool> ema;
    bool json = false, per_class = false;
    app.add_option("--checkpoint", checkpoint, "weights: .safetensors or .pth, or a run's folder")
        ->required();
    tools::add_ema_flags(app, ema);
    shared.model.clear();
    shared.class_order = "natural";  // who names no classes is timm
    tools::add_options(app, shared, {"model", "img-size"});
    tools::add_options(app, shared, tools::kModelFlags);
    tools::add_options(
        app, shared,
        {"data", "train-split", "val-split", "val-share", "seed", "class-map", "class-order",
         "max-broken-share", "no-listing-cache", "crop-pct", "mean", "std", "batch-size", "device",
         "dtype", "threads", "workers", "log-interval"});
    app.get_option("--data")->required();
    for (const char* of_checkpoint : {"--mean", "--std"})
      app.get_option(of_checkpoint)->default_str("");
    app.add_option("--topk", topk, "K...: an image is right where its class is among the K first")
        ->default_str("1 5");
    app.add_flag("--per-class", per_class, "a table of the accuracy by class");
    app.add_option("--confusion", confusion, "PNG to write: which classes are taken for which");
    app.add_option("--results-file", results_file,
                   "writes what was predicted of each image: .csv, .json or .jsonl");
    app.add_flag("--json", json, "JSON on standard output");
    tools::add_timm_flags(app, {"--amp", "--native-amp", "--channels-last", "--pin-mem"});
    tools::parse(app, argc, argv);
    tools::explain_timm_flags(app, {}, shared.device, shared.dtype);
    if (!results_file.empty()) tools::check_results_file(results_file, {checkpoint});
    if (!confusion.empty()) tools::check_output(confusion, {checkpoint}, data::is_own_png);
    const std::vector<int64_t> ks = parse_topk(topk);
    const Compute compute = parse_compute(shared.device, shared.dtype);
    tools::announce(compute);
    if (shared.threads) set_num_threads(int(*shared.threads));

    report::Console console(json);
    const std::string path = infer::find_weights(checkpoint).string();
    const auto file = infer::load_model(
        path, {.ema = ema,
               .model = shared.model,
               .change = [&](auto config) { return train::apply(shared, config); },
               .compute = compute});
    tools::announce(file);
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
      std::optional<tools::ResultWriter> to_file, to_output;
      std::vector<tools::ResultWriter*> writers;
      if (!results_file.empty()) writers.push_back(&to_file.emplace(results_file));
      if (json) writers.push_back(&to_output.emplace(stdout, ".json"));
      return predict_alone(file, settings, shared.data, writers, std::ranges::max(ks), console);
    }
    take_split_of_run(shared, app, file, path, console);
    const data::DatasetRequest request = request_of(shared, file.class_names);
    const std::shared_ptr<const data::Dataset> dataset =
        data::open_dataset(shared.data, data::Split::val, request);
    const int64_t classes = file.model->config().classes;
    if (file.class_names.empty() && dataset->num_classes() != classes)
      fail(ExitCode::data,
           "{}: {} classes, but the weights of {} have {}; --class-map names those of the weights, "
           "and sgtrain --initial-checkpoint {} --reset-head trains a new head",
           shared.data, dataset->num_classes(), path, classes, path);
    std::vector<std::string> remarks = dataset->remarks();
    if (file.class_names.empty() && shared.class_map.empty() && !request.classes.empty())
      remarks.push_back(fmt::format(
          "class order: {}, {} (--class-order, --class-map)", shared.class_order,
          app.count("--class-order") ? "as given"
                                     : "as timm counts, since the weights name no classes"));
    for (std::string& remark : remarks) {
      remark = escape_odd_bytes(remark);
      console.line(remark);
    }
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
      console.warning(
          fmt::format("{} of {} images could not be read; the scores are of the other {}",
                      evaluate.skipped(), dataset->size(), evaluate.images()));

    const std::vector<std::string>& names = dataset->class_names();
    if (!confusion.empty())
      tools::write_png(confusion,
                       report::matrix_image(tasks::confusion_matrix(outcomes, names, classes)));
    if (per_class && !json) print(tasks::accuracy_by_class(outcomes, names));
    if (!results_file.empty()) {
      tools::ResultWriter results(results_file);
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
  });
}
