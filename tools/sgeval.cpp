// sgeval: how well a model does on the validation set of a folder of images.
#include <algorithm>

#include "core/cpu/parallel.h"
#include "infer/model_file.h"
#include "tools/common/confusion_file.h"
#include "tools/common/eval.h"
#include "tools/common/eval_coco.h"
#include "tools/common/images.h"
#include "tools/common/options.h"
#include "tools/common/timm.h"

namespace {

// Throws ExitCode::usage where another flag than those that COCO's results have was given.
void refuse_other_flags(const CLI::App& app) {
  const std::vector<std::string> known{"--coco-annotations", "--coco-results", "--iou-type",
                                       "--per-class",        "--json",         "--threads"};
  for (const CLI::Option* option : app.get_options())
    if (option->count() && std::ranges::find(known, option->get_name()) == known.end())
      sg::fail(sg::ExitCode::usage,
               "{}: results of --coco-results are evaluated without a model; leave it out",
               option->get_name());
}

}  // namespace

int main(int argc, char** argv) {
  using namespace sg;
  return tools::run([&] {
    CLI::App app(
        "Evaluates a checkpoint of a classifier: top-1 and top-5 accuracy in percent, and the "
        "cross "
        "entropy; or of segmentation: mIoU, mean accuracy and pixel accuracy, and a row a class. A "
        "checkpoint of sgtrain knows its task, its model and how its images are prepared; flags "
        "win. Of weights alone say with --model what model they are of.\n"
        "Classification: --data may also be the folder of the classes itself, or of images alone, "
        "of which --results-file or --json holds predictions; the exit code is 3 where some of "
        "them cannot be read. A checkpoint of sgtrain knows its classes; weights alone are taken "
        "to count them in timm's natural order unless --class-map or --class-order says "
        "otherwise.\n"
        "Segmentation: counts are summed over all images, each once and at its own resolution; "
        "ignored pixels count nowhere. IoU of a class: pixels that are labelled and predicted as "
        "it, divided by those that are either. Classes that are neither labelled nor predicted are "
        "not in the means; one that is predicted but never labelled has IoU 0.\n"
        "Detection: results of any program, in COCO's form, with --coco-annotations and "
        "--coco-results alone: the twelve numbers of pycocotools.");
    tools::EvalRequest request;
    train::Options& shared = request.options;
    std::string checkpoint;
    app.add_option("--checkpoint", checkpoint, "weights: .safetensors or .pth, or a run's folder");
    tools::add_ema_flags(app, request.ema);
    shared.model.clear();
    shared.class_order = "natural";  // who names no classes is timm
    tools::add_options(app, shared, {"model", "img-size"});
    tools::add_options(app, shared, tools::kModelFlags);
    tools::add_options(
        app, shared,
        {"data", "train-split", "val-split", "val-share", "seed", "class-map", "class-order",
         "max-broken-share", "no-listing-cache", "crop-pct", "mean", "std", "batch-size", "device",
         "dtype", "threads", "workers", "log-interval"});
    Bf16Emulation emulation;
    tools::add_emulation_flag(app, emulation);
    for (const char* of_checkpoint : {"--mean", "--std"})
      app.get_option(of_checkpoint)->default_str("");
    app.add_option("--topk", request.topk,
                   "K...: an image is right where its class is among the K first")
        ->default_str("1 5");
    app.add_flag("--per-class", request.per_class,
                 "a table of the accuracy by class; segmentation has it anyway, but for --json");
    app.add_option("--confusion", request.confusion,
                   "PNG or CSV to write: which classes are taken for which");
    app.add_option("--results-file", request.results_file,
                   "writes what was predicted of each image: .csv, .json or .jsonl");
    app.add_flag("--json", request.json, "JSON on standard output");
    const char* group = "Segmentation";
    tools::add_options(app, shared,
                       {"task", "head", "image-scale", "ignore-index", "reduce-zero-label"});
    app.get_option("--task")->default_str("");
    app.add_flag("--ms", request.ms,
                 "several scales: 0.5, 0.75, 1, 1.25, 1.5 and 1.75 times --image-scale, their "
                 "probabilities averaged")
        ->group(group);
    app.add_flag("--flip", request.flip, "each image mirrored too, probabilities averaged")
        ->group(group);
    app.add_option(
           "--slide", request.slide,
           "CROP[,STRIDE]: the network sees windows of this side, whose logits are averaged; "
           "default of the stride: two thirds")
        ->group(group);
    app.add_flag("--keep-ratio", request.keep_ratio,
                 "images keep their proportions; without it, sides are then stretched to multiples "
                 "of 32 (AlignResize)")
        ->group(group);
    tools::CocoRequest coco;
    const char* of_results = "Results of detection";
    app.add_option("--coco-annotations", coco.annotations,
                   "JSON of the objects, as COCO's instances_val2017.json")
        ->group(of_results);
    app.add_option("--coco-results", coco.results,
                   "JSON of what was found: a list of {image_id, category_id, score, bbox or "
                   "segmentation}")
        ->group(of_results);
    tools::add_choice(app, "--iou-type", coco.iou_type, {"bbox", "segm"},
                      "what is compared, boxes or masks")
        ->group(of_results);
    tools::add_timm_flags(app, {"--amp", "--native-amp", "--channels-last", "--pin-mem"});
    tools::parse(app, argc, argv);
    tools::explain_timm_flags(app, {}, shared.device, shared.dtype);
    const std::vector<std::string> needed =
        coco.results.empty() && coco.annotations.empty()
            ? std::vector<std::string>{"--checkpoint", "--data"}
            : std::vector<std::string>{"--coco-annotations", "--coco-results"};
    for (const std::string& flag : needed)
      if (!app.count(flag)) fail(ExitCode::usage, "{} is required; see --help", flag);
    if (!coco.results.empty()) {
      refuse_other_flags(app);
      if (shared.threads) set_num_threads(int(*shared.threads));
      coco.json = request.json, coco.per_class = request.per_class;
      report::Console console(request.json);
      return tools::eval_coco(coco, console);
    }
    if (!request.results_file.empty())
      tools::check_results_file(request.results_file, {checkpoint});
    if (!request.confusion.empty()) tools::check_confusion_file(request.confusion, {checkpoint});
    request.compute = parse_compute(shared.device, shared.dtype, emulation);
    tools::announce(request.compute);
    if (shared.threads) set_num_threads(int(*shared.threads));

    report::Console console(request.json);
    request.weights = infer::find_weights(checkpoint).string();
    const std::string found = infer::task_of(request.weights);
    if (app.count("--task") && shared.task != found)
      fail(ExitCode::usage, "--task: expected {}, as {} is of it, found '{}'", found,
           request.weights, shared.task);
    if (found == infer::kDetection) return tools::eval_detection(app, request, console);
    return found == infer::kSegmentation ? tools::eval_segmentation(app, request, console)
                                         : tools::eval_classification(app, request, console);
  });
}
