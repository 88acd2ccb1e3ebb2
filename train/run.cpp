#include "train/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "core/allocator.h"
#include "core/cpu/cores.h"
#include "core/cpu/memory.h"
#include "core/cpu/parallel.h"
#include "core/text.h"
#include "dist/group.h"
#include "dist/launcher.h"
#include "dist/socket.h"
#include "io/file.h"
#include "train/agreement.h"
#include "train/run_folder.h"
#include "train/same_run.h"
#include "train/start_ranks.h"
#include "train/trainer.h"

namespace sg::train {
namespace fs = std::filesystem;
namespace {

// So many threads compute. Ranks of a host that may use the same cores share them, unless it is
// said how many threads each is to have. Collective.
void set_threads(const Options& o, dist::Group& group) {
  const std::vector<std::string> cores =
      group.all_gather("cores of the ranks",
                       fmt::format("{} {}", dist::host_name(), fmt::join(cores_of_mask(), ",")));
  if (o.threads)
    set_num_threads(int(*o.threads));
  else if (!std::getenv("OMP_NUM_THREADS"))
    set_num_threads(
        std::max(1, num_threads() / int(std::ranges::count(cores, cores[size_t(group.rank())]))));
}

// Of a run that goes on, what must not follow flags that are others now.
void adopt(Options& o, const Setup& setup, const std::optional<Resumable>& from,
           dist::Group& group) {
  nlohmann::json adopted = nlohmann::json::object();
  if (from)
    adopted = setup.adopted(o, from->checkpoint.state.value("args", nlohmann::json::object()));
  apply_json(o, nlohmann::json::parse(group.broadcast("options of the checkpoint", adopted.dump())),
             "the checkpoint");
}

// The command line by which a run goes on in its folder.
std::string go_on_command(std::vector<std::string> command, const Options& given,
                          const fs::path& folder) {
  command = without_start_options(command);
  if (!names_folder(given)) command.insert(command.end(), {"--output", folder.string()});
  command.insert(command.end(), {"--resume", "auto"});
  return shell_command(command);
}

// "sgformer_s on imagenet"
std::string title_of(const Options& o) {
  const fs::path data = fs::path(o.data).lexically_normal();
  const fs::path name = (data.has_filename() ? data : data.parent_path()).filename();
  return fmt::format("{} on {}", o.model, escape_name(name.string()));
}

// What --resume means: a checkpoint's file, or the newest checkpoint of a run.
std::optional<Resumable> find_checkpoint(const Options& o, const fs::path& folder,
                                         const std::string& go_on) {
  if (o.resume.empty()) {
    if (holds_checkpoint(folder / kCheckpoints))
      fail(ExitCode::usage,
           "{}: holds a run already; choose another --output, or go on with it: {}",
           folder.string(), go_on);
    return {};
  }
  if (o.resume == "auto") return find_resumable(folder / kCheckpoints);
  if (!fs::is_directory(o.resume)) return Resumable{o.resume, load_checkpoint(o.resume)};
  const bool is_run = fs::is_directory(fs::path(o.resume) / kCheckpoints);
  auto found = find_resumable(is_run ? fs::path(o.resume) / kCheckpoints : fs::path(o.resume));
  if (!found) fail(ExitCode::checkpoint, "--resume: {}: no checkpoint in this folder", o.resume);
  return found;
}

nlohmann::json identity_of(const Options& o, const Setup& setup) {
  nlohmann::json identity = setup.identity();
  identity.update({{"args", without_start_options(to_json(o))},
                   {"train_images", setup.training_images()},
                   {"seed", o.seed},
                   {"version", SG_VERSION}});
  return identity;
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

void introduce(report::Console& console, const Options& o, const Setup& setup,
               const nn::ParameterStore& parameters, const Compute& compute, const Trainer& trainer,
               const dist::Launch& launch) {
  console.line(fmt::format("sgtrain {}: {}", SG_VERSION, setup.introduce_model(o)));
  for (const nn::GroupSize& group : parameters.groups())
    console.line("  " + describe(group, o.weight_decay));
  for (const std::string& line : setup.introduce_data(o)) console.line(line);
  console.line(describe(compute));
  console.line(fmt::format(
      "{} of {} images; {} compute and {} loading threads",
      o.steps ? fmt::format("{} steps, epochs have {}", o.steps, trainer.epoch_steps())
              : fmt::format("{} epochs of {} steps", trainer.total_epochs(), trainer.epoch_steps()),
      images_a_step(o), num_threads(), *o.workers));
  if (o.ranks > 1)
    console.line(fmt::format(
        "{} processes, started by {}, each with {} images of a step{}; gradients are summed by {} "
        "in {} slices",
        o.ranks, launch.launcher, o.batch_size * o.grad_accum,
        o.grad_accum > 1 ? fmt::format(" in {} passes", o.grad_accum) : "",
        compute.device.type == DeviceType::cpu ? "Gloo" : "NCCL", trainer.slice_ends().size()));
}

// What was decided for want of a flag, where that is not the recipe.
void introduce_rates(report::Console& console, const Options& given, const Options& used,
                     const Schedule& schedule) {
  if (given.lr_base && given.lr)
    console.warning(fmt::format("--lr {} wins over --lr-base {}", *given.lr, *given.lr_base));
  else if (given.lr_base)
    console.line(fmt::format(
        "learning rate {:.4g}: --lr-base {} for steps of {} images, here {} ({})", *used.lr,
        *given.lr_base, used.lr_base_size, images_a_step(used), used.lr_base_scale));
  if (Options usual = used;
      !given.warmup_epochs && std::holds_alternative<CosineSchedule>(schedule)) {
    usual.warmup_epochs.reset(), usual.epochs = Options().epochs;
    if (warmup_epochs(usual) != *used.warmup_epochs)
      console.line(fmt::format("warm-up of {} epochs: the recipe's {} are too many for a run of {}",
                               *used.warmup_epochs, warmup_epochs(usual), used.epochs));
  }
}

// Before the first step: whether it can be taken, and whether it will take unusually long.
StepCost check_cost(report::Console& console, const Options& o, Setup& setup, size_t available) {
  const StepCost cost = setup.cost(o);
  check_memory(cost, o.batch_size, *o.img_size, double(available));
  const std::string note = note_of_cost(cost, *o.img_size, setup.usual_side());
  if (!note.empty()) console.warning(note);
  return cost;
}

// A run that is set up.
struct Run {
  const Options &given, &options, &usual;  // options: all filled in
  const Compute& compute;
  Setup& setup;
  const fs::path& folder;
  const std::string& go_on;  // the command line by which it goes on
  tasks::Task& task;
  Trainer& trainer;
  report::Console& console;
  const dist::Launch& launch;
  dist::Group& group;
};

void resume(const Run& r, Resumable& from, const nlohmann::json& identity) {
  check_same_run(from, identity, r.options, r.console);
  adapt_to_data(from.checkpoint, r.options, r.setup.training_images(), r.trainer.epoch_steps(),
                r.console);
  try {
    r.trainer.restore(from.checkpoint, !r.options.no_resume_opt);
  } catch (const Error& e) {
    fail(e.code(), "{}: {}", from.path.string(), e.what());
  }
  r.console.line(
      fmt::format("resuming from {}, step {}", from.path.string(), r.trainer.state().step));
  if (!r.options.initial_checkpoint.empty())
    r.console.line(fmt::format("{} is not read: the run goes on", r.options.initial_checkpoint));
}

void write_report(const Run& r, const std::vector<nlohmann::json>& rows) {
  report::Report report{
      .title = title_of(r.options),
      .data = r.setup.describe_data(r.options) +
              (r.group.alone() ? "" : fmt::format(" {} processes.", r.group.ranks())),
      .configuration = settings(r.options, r.given, r.usual),
      .rows = rows,
      .scores = r.trainer.schema(),
      .epoch_steps = r.trainer.epoch_steps(),
      .epochs = r.trainer.total_epochs(),
      .parameters = r.task.parameters().count(),
      .finished = r.trainer.finished()};
  std::ranges::find(report.configuration, "dtype", &report::Setting::name)->value =
      describe_dtype(r.compute);
  try {
    r.trainer.with_ema([&] { report.samples = r.setup.samples(); });
  } catch (const Error& e) {  // the page is the more wanted where the weights are damaged
    if (e.code() != ExitCode::nonfinite) throw;
    r.console.warning(fmt::format("report.html has no samples: {}", e.what()));
  }
  report.findings = r.task.findings();
  write_file(r.folder / "report.html", report::report_html(report));
}

void conclude(const Run& r, ExitCode code) {
  if (code == ExitCode::interrupted)
    r.console.line(r.group.alone() || dist::is_launched()
                       ? fmt::format("go on by: {}", r.go_on)
                       : fmt::format("go on by, as {} processes of {}: {}", r.launch.ranks,
                                     r.launch.launcher, r.go_on));
  if (code != ExitCode::ok) return;
  const TrainState& state = r.trainer.state();
  if (state.skipped)
    r.console.warning(fmt::format("{} of {} steps were skipped: they had no finite numbers",
                                  state.skipped, state.step));
  const std::string best =
      state.best_epoch < 0 ? "no epoch has a score"
                           : fmt::format("best epoch {} with {} {:.3f}; {}", state.best_epoch + 1,
                                         r.trainer.schema()[0].name, state.best,
                                         (r.folder / kCheckpoints / "best.safetensors").string());
  r.console.line(fmt::format("done: {}, {}", best, (r.folder / "report.html").string()));
}

// Rank 0's part: it trains, and writes all files. `args` is what args.json has.
ExitCode train_and_write(const Run& r, const nlohmann::json& identity, const nlohmann::json& args,
                         const std::optional<StepCost>& cost, StopSignals& signals) {
  remove_unfinished(r.folder);
  write_file(r.folder / "args.json", args.dump(2) + "\n");  // first: it says whose folder this is
  r.console.open_log(r.folder / "train.log");
  Outputs outputs{
      .log = report::RunLog(r.folder, r.trainer.state().step, r.trainer.unevaluated_epoch(),
                            r.task.schema()),
      .checkpoints = CheckpointFolder(r.folder / kCheckpoints, int(r.options.checkpoint_hist)),
      .identity = identity};
  // A page that cannot be made is no reason to end: the next epoch makes it again.
  std::string report_problem;
  outputs.report = [&] {
    try {
      write_report(r, outputs.log.rows());
      report_problem.clear();
    } catch (const std::exception& e) {
      const bool first = report_problem.empty();
      report_problem = fmt::format("report.html: {}", e.what());
      if (first) r.console.warning(report_problem + "; the run goes on, and tries again");
    }
  };
  r.console.line(fmt::format("writing to {}", r.folder.string()));

  signals.save_first();
  const auto list_incomplete = [&] {
    if (!report_problem.empty()) outputs.report();
    std::vector<std::string> problems = outputs.log.problems();
    problems.insert(problems.end(), {report_problem, r.console.log_problem()});
    std::erase(problems, "");
    for (const std::string& problem : problems)
      r.console.warning(fmt::format("incomplete: {}", problem));
  };
  ExitCode code{};
  try {
    code = r.trainer.run(&outputs);
  } catch (const OutOfMemory& e) {
    list_incomplete();
    const size_t left = available_memory() + Allocator::of({}).stats().reserved;
    fail(e.code(), "{}: {}", e.what(), smaller_batch(cost, r.options.batch_size, double(left)));
  } catch (const Error&) {
    list_incomplete();
    throw;
  }
  r.group.busy("writing what could not be written before", list_incomplete);
  return code;
}

ExitCode run_rank(Options options, const Options& usual, Setup& setup, StopSignals& signals,
                  const std::vector<std::string>& command, const dist::Launch& launch,
                  dist::Group& group) {
  const Options given = options;
  const Compute compute = parse_compute(device_of_rank(options.device, launch), options.dtype);
  set_threads(options, group);
  report::Console console;
  console.forgive_screen();
  if (!group.leads()) console.mute();
  check_agreement(group, "options", options_to_agree_on(options));
  if (!names_folder(options))
    options.output = group.broadcast("folder of the run", new_folder(options).string());

  group.busy("listing the images", [&] { setup.open_data(options); });
  if (!group.alone()) check_agreement(group, "data", setup.data_to_agree_on());

  const fs::path folder = run_folder(options);
  const std::string go_on = go_on_command(command, given, folder);
  std::optional<FolderLock> lock;
  std::optional<Resumable> from;
  // Before the checkpoint is read: the cost of a step counts its tensors already.
  const size_t available = available_memory() / size_t(launch.local_ranks);
  if (group.leads())
    group.busy("reading the checkpoint", [&] {
      if (!options.dry_run) check_files_in_the_way(folder), lock.emplace(folder);
      from = find_checkpoint(options, folder, go_on);
    });
  adopt(options, setup, from, group);
  options.workers = loading_threads(options);
  options.dtype = name_of(compute.dtype);
  setup.resolve(options);
  nn::ParameterStore& parameters = setup.make_model(options);
  parameters.allocate(compute.dtype, compute.device);
  parameters.initialize(uint64_t(options.seed));
  if (group.leads() && !options.initial_checkpoint.empty() && !from)
    group.busy("reading the weights", [&] { console.line(setup.load_initial_weights(options)); });
  std::optional<StepCost> cost;
  if (compute.device.type == DeviceType::cpu) cost = check_cost(console, options, setup, available);
  tasks::Task& task = setup.make_task(options, group);
  Trainer trainer(options, task, console, group);
  options = trainer.options();
  if (group.leads()) {  // it looks into the data
    introduce(console, options, setup, parameters, compute, trainer, launch);
    introduce_rates(console, given, options, trainer.schedule());
  }
  const nlohmann::json identity = identity_of(options, setup);
  nlohmann::json args = args_json(given, identity["args"]);
  args["version"] = SG_VERSION;
  args["resolved"]["device"] = str(compute.device), args["resolved"]["threads"] = num_threads();
  args["resolved"]["arithmetic"] = describe_dtype(compute);
  if (!group.alone()) args["resolved"]["processes"] = group.ranks();
  if (options.dry_run) {
    console.line(args.dump(2));
    const double seconds = trainer.try_step();
    console.line(fmt::format("a step takes {:.3f} s; nothing was written", seconds));
    return ExitCode::ok;
  }

  const Run run{given, options, usual,   compute, setup,  folder,
                go_on, task,    trainer, console, launch, group};
  if (from) {
    resume(run, *from, identity);
    from.reset();  // its tensors
  } else if (options.resume == "auto") {
    console.line(fmt::format("{}: no checkpoint yet, starting anew", folder.string()));
  }
  if (options.start_epoch) trainer.start_at(*options.start_epoch);
  trainer.share();
  check_agreement(group, "step",
                  {{"parameters", parameters.count()},
                   {"dtype", name_of(compute.dtype)},
                   {"device", name_of(compute.device.type)},
                   {"steps of an epoch", trainer.epoch_steps()},
                   {"gradient slices", trainer.slice_ends()}});
  ExitCode code{};
  if (group.leads()) {
    code = train_and_write(run, identity, args, cost, signals);
  } else {
    signals.save_first();
    code = trainer.run(nullptr);
  }
  // A launcher may end what is left where one process has ended: none does before rank 0 has
  // written all.
  group.barrier("the end of the run");
  if (group.leads()) conclude(run, code);
  return code;
}

}  // namespace

ExitCode run(Options options, const Options& usual, Setup& setup, StopSignals& signals,
             const std::vector<std::string>& command) {
  const dist::Launch launch = dist::launch_of_environment();
  options.ranks = launch.ranks;
  validate(options);
  setup.validate(options);
  if (launch.ranks == 1)
    return run_rank(options, usual, setup, signals, command, launch, dist::alone());
  const auto group =
      dist::join(launch, {.timeout = std::chrono::duration<double>(options.dist_timeout),
                          .folder = names_folder(options) ? run_folder(options) : fs::path()});
  try {
    return run_rank(options, usual, setup, signals, command, launch, *group);
  } catch (const std::exception& e) {
    // This rank says all of it; from the others its first line is enough.
    const std::string_view all = e.what();
    group->leave(all.substr(0, all.find('\n')));
    throw;
  }
}

}  // namespace sg::train
