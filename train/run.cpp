#include "train/run.h"

#include <fmt/chrono.h>

#include <ctime>

#include "core/cpu/memory.h"
#include "core/cpu/parallel.h"
#include "infer/model_file.h"
#include "io/file.h"
#include "sgformer/config_json.h"
#include "tasks/class_weights.h"
#include "tasks/classification.h"
#include "train/report_samples.h"
#include "train/signals.h"
#include "train/step_cost.h"
#include "train/trainer.h"

namespace sg::train {
namespace fs = std::filesystem;
namespace {

constexpr const char* kCheckpoints = "checkpoints";

struct Data {
  std::shared_ptr<const data::Dataset> training, validation;
};

Data open_data(const std::string& folder) {
  Data d;
  d.training = data::open_dataset(folder, data::Split::train);
  d.validation = data::open_dataset(folder, data::Split::val, d.training->class_names());
  return d;
}

// Fills in what depends on the data.
void resolve(Options& o, const Data& d) {
  const int64_t classes = d.training->num_classes();
  if (o.num_classes && *o.num_classes < classes)
    fail(ExitCode::usage, "--num-classes: the data has {} classes, found {}", classes,
         *o.num_classes);
  o.num_classes = o.num_classes.value_or(classes);
  o.drop_path = model_config(o).drop_path;
  o.dtype = name_of(parse_compute(o.device, o.dtype).dtype);
  const data::TransformConfig t = transforms(o);
  o.img_size = t.img_size, o.crop_pct = t.crop_pct;
}

fs::path run_folder(const Options& o) {
  if (!o.experiment.empty())
    return fs::path(o.output.empty() ? "output/train" : o.output) / o.experiment;
  if (!o.output.empty()) return o.output;
  return fs::path("output/train") / fmt::format("{:%Y%m%d-%H%M%S}-{}-{}",
                                                fmt::localtime(std::time(nullptr)), o.model,
                                                *o.img_size);
}

// "sgformer_s on imagenet"
std::string title_of(const Options& o) {
  const fs::path data = fs::path(o.data).lexically_normal();
  return fmt::format("{} on {}", o.model,
                     (data.has_filename() ? data : data.parent_path()).filename().string());
}

// What --resume means: a checkpoint's file, or the newest checkpoint of a run.
std::optional<Resumable> find_checkpoint(const Options& o, const fs::path& folder) {
  if (o.resume.empty()) {
    const fs::path checkpoints = folder / kCheckpoints;
    std::error_code absent;
    for (const auto& item : fs::directory_iterator(checkpoints, absent))
      if (item.path().extension() == ".safetensors")
        fail(ExitCode::usage,
             "{}: holds a run already; go on with it by --resume auto, or choose another --output",
             folder.string());
    return {};
  }
  if (o.resume == "auto") return find_resumable(folder / kCheckpoints);
  if (!fs::is_directory(o.resume)) return Resumable{o.resume, load_checkpoint(o.resume)};
  const bool is_run = fs::is_directory(fs::path(o.resume) / kCheckpoints);
  auto found = find_resumable(is_run ? fs::path(o.resume) / kCheckpoints : fs::path(o.resume));
  if (!found) fail(ExitCode::checkpoint, "--resume: {}: no checkpoint in this folder", o.resume);
  return found;
}

nlohmann::json identity_of(const Options& o, const Data& d, const sgformer::Classifier& model) {
  nlohmann::json args = to_json(o);
  args.erase("resume"), args.erase("dry_run");  // they say how a process started
  return {{"args", args},
          {"model", sgformer::config_to_json(model.config())},
          {"classes", d.training->class_names()},
          {"train_images", d.training->size()},
          {"seed", o.seed},
          {"version", SG_VERSION}};
}

void check_same_run(const Resumable& from, const nlohmann::json& identity,
                    report::Console& console) {
  const nlohmann::json &before = from.checkpoint.state, none = nlohmann::json::object();
  OptionChanges c = changes(before.value("args", none), identity["args"]);
  for (const char* key : {"train_images", "classes"})
    if (const auto a = before.value(key, nlohmann::json()); a != identity[key]) {
      const auto text = [](const nlohmann::json& j) {
        return j.is_array() ? fmt::format("{} names", j.size()) : j.dump();
      };
      c.refused += fmt::format("  {:<22} {} -> {}\n", key, text(a), text(identity[key]));
    }
  if (!c.refused.empty())
    fail(
        ExitCode::checkpoint,
        "{}: is of another run (there -> here):\n{}resume with the same, or take its weights alone "
        "by --initial-checkpoint",
        from.path.string(), c.refused);
  if (const auto a = before.value("class_weights", nlohmann::json()),
      b = identity.value("class_weights", nlohmann::json());
      a != b)
    c.noted += fmt::format("  {:<22} {} -> {}\n", "class weights", a.dump(), b.dump());
  if (!c.noted.empty())
    console.warning(fmt::format("the run goes on differently than it began:\n{}", c.noted));
}

// "402 tensors of 115,649 parameters: learning rate x 1, no weight decay"
std::string describe(const nn::GroupSize& size, double weight_decay) {
  const nn::ParameterGroup& g = size.group;
  const std::string decay =
      g.weight_decay_scale > 0 ? fmt::format("weight decay {}", weight_decay * g.weight_decay_scale)
                               : "no weight decay";
  return fmt::format(
      "{} tensors of {} parameters: {}", size.tensors, report::grouped(size.elements),
      g.frozen ? "frozen" : fmt::format("learning rate x {:.4g}, {}", g.lr_scale, decay));
}

void introduce(report::Console& console, const Options& o, const Data& d,
               const sgformer::Classifier& model, const Compute& compute, const Trainer& trainer) {
  console.line(fmt::format("sgtrain {}: {}, {:.2f} million parameters, {} classes", SG_VERSION,
                           o.model, 1e-6 * double(model.parameters().count()), *o.num_classes));
  for (const nn::GroupSize& group : model.parameters().groups())
    console.line("  " + describe(group, o.weight_decay));
  console.line(fmt::format("data {}: {} training and {} validation images, seen at {} x {}", o.data,
                           d.training->size(), d.validation->size(), *o.img_size, *o.img_size));
  console.line(fmt::format("{}; {}", describe(compute), o.dtype));
  console.line(fmt::format("{} epochs of {} steps of {} images; {} compute and {} loading threads",
                           trainer.total_steps() / trainer.epoch_steps(), trainer.epoch_steps(),
                           o.batch_size * o.grad_accum, num_threads(), o.workers));
}

// What was decided for want of a flag, where that is not the recipe.
void introduce_rates(report::Console& console, const Options& given, const Options& used) {
  if (given.lr_base && given.lr)
    console.warning(fmt::format("--lr {} wins over --lr-base {}", *given.lr, *given.lr_base));
  else if (given.lr_base)
    console.line(fmt::format(
        "learning rate {:.4g}: --lr-base {} for steps of {} images, here {} ({})", *used.lr,
        *given.lr_base, used.lr_base_size, used.batch_size * used.grad_accum, used.lr_base_scale));
  if (Options usual = used; !given.warmup_epochs) {
    usual.warmup_epochs.reset(), usual.epochs = Options().epochs;
    if (warmup_epochs(usual) != *used.warmup_epochs)
      console.line(fmt::format("warm-up of {} epochs: the recipe's {} are too many for a run of {}",
                               *used.warmup_epochs, warmup_epochs(usual), used.epochs));
  }
}

// Before the first step: whether it can be taken, and whether it will take unusually long.
void check_cost(report::Console& console, const Options& o, sgformer::Classifier& model) {
  const StepCost cost = measure_step_cost(model, *o.img_size);
  check_memory(cost, o.batch_size, *o.img_size, double(available_memory()));
  const std::string note = note_of_cost(cost, *o.img_size, model.config().image);
  if (!note.empty()) console.warning(note);
}

}  // namespace

ExitCode run(Options options) {
  validate(options);
  const Options given = options;
  if (options.threads) set_num_threads(int(*options.threads));
  const StopSignals signals;
  report::Console console;

  const Data data = open_data(options.data);
  resolve(options, data);
  sgformer::Classifier model(model_config(options));
  model.parameters().set_groups(sgformer::group_rule(model.config(), group_settings(options)));
  const Compute compute = parse_compute(options.device, options.dtype);
  model.parameters().allocate(compute.dtype, compute.device);
  model.parameters().initialize(uint64_t(options.seed));
  if (!options.initial_checkpoint.empty()) {
    const bool ema =
        infer::load_initial_weights(model, options.initial_checkpoint, options.reset_head);
    console.line(fmt::format("weights of {}{}", options.initial_checkpoint, ema ? " (EMA)" : ""));
  }
  if (compute.device.type == DeviceType::cpu) check_cost(console, options, model);
  tasks::ClassificationSettings settings_of_task = classification(options);
  const std::vector<double> weights = settings_of_task.class_weights =
      tasks::class_weights(options.class_weights, *data.training, *options.num_classes);
  tasks::Classification task(model, data.training, data.validation, settings_of_task);
  Trainer trainer(options, task, console);
  options = trainer.options();
  introduce(console, options, data, model, compute, trainer);
  introduce_rates(console, given, options);
  nlohmann::json identity = identity_of(options, data, model);
  if (!weights.empty()) identity["class_weights"] = weights;
  nlohmann::json args = args_json(given, identity["args"]);
  args["version"] = SG_VERSION;
  args["resolved"]["device"] = str(compute.device), args["resolved"]["threads"] = num_threads();
  if (options.dry_run) {
    console.line(args.dump(2));
    const double seconds = trainer.try_step();
    console.line(fmt::format("a step takes {:.3f} s; nothing was written", seconds));
    return ExitCode::ok;
  }

  const fs::path folder = run_folder(options);
  const FolderLock lock(folder);
  console.open_log(folder / "train.log");
  if (const auto from = find_checkpoint(options, folder)) {
    check_same_run(*from, identity, console);
    try {
      trainer.restore(from->checkpoint);
    } catch (const Error& e) {
      fail(e.code(), "{}: {}", from->path.string(), e.what());
    }
    console.line(
        fmt::format("resuming from {}, step {}", from->path.string(), trainer.state().step));
  } else if (options.resume == "auto") {
    console.line(fmt::format("{}: no checkpoint yet, starting anew", folder.string()));
  }
  write_file(folder / "args.json", args.dump(2) + "\n");
  Outputs outputs{
      .log =
          report::RunLog(folder, trainer.state().step, trainer.unevaluated_epoch(), task.schema()),
      .checkpoints = CheckpointFolder(folder / kCheckpoints, int(options.checkpoint_hist)),
      .identity = identity};
  outputs.report = [&] {
    report::Report report{
        .title = title_of(options),
        .data = fmt::format("{} training and {} validation images of {} x {} "
                            "pixels, {} classes.",
                            report::grouped(data.training->size()),
                            report::grouped(data.validation->size()), *options.img_size,
                            *options.img_size, *options.num_classes),
        .configuration = settings(options, given),
        .rows = outputs.log.rows(),
        .scores = task.schema(),
        .epoch_steps = trainer.epoch_steps(),
        .epochs = trainer.total_steps() / trainer.epoch_steps(),
        .parameters = model.parameters().count(),
        .finished = trainer.finished()};
    const infer::Predictor predict(model, {transforms(options), channel_stats(options)});
    try {
      trainer.with_ema([&] { report.samples = report_samples(predict, *data.validation); });
    } catch (const Error& e) {  // the page is the more wanted where the weights are damaged
      if (e.code() != ExitCode::nonfinite) throw;
      console.warning(fmt::format("report.html has no samples: {}", e.what()));
    }
    write_file(folder / "report.html", report::report_html(report));
  };
  console.line(fmt::format("writing to {}", folder.string()));

  const ExitCode code = trainer.run(outputs);
  const TrainState& state = trainer.state();
  if (code == ExitCode::ok && state.skipped)
    console.warning(fmt::format("{} of {} steps were skipped: they had no finite numbers",
                                state.skipped, state.step));
  const std::string best =
      state.best_epoch < 0 ? "no epoch has a score"
                           : fmt::format("best epoch {} with {} {:.3f}; {}", state.best_epoch + 1,
                                         task.schema()[0].name, state.best,
                                         (folder / kCheckpoints / "best.safetensors").string());
  if (code == ExitCode::ok)
    console.line(fmt::format("done: {}, {}", best, (folder / "report.html").string()));
  return code;
}

}  // namespace sg::train
