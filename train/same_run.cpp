#include "train/same_run.h"

#include <algorithm>

#include "core/text.h"

namespace sg::train {
namespace {

// What lacks in one of two lists of classes; of the same names, where their order differs first.
std::string changed_classes(const nlohmann::json& before, const nlohmann::json& now) {
  const auto lacking = [](const nlohmann::json& all, const nlohmann::json& in) {
    data::ClassNames names;
    for (const auto& name : all)
      if (std::find(in.begin(), in.end(), name) == in.end()) names.push_back(name);
    return names.empty() ? std::string("none") : data::some_of(names);
  };
  if (!before.is_array()) return "not known";
  if (std::is_permutation(before.begin(), before.end(), now.begin(), now.end())) {
    const auto [there, here] = std::mismatch(before.begin(), before.end(), now.begin());
    return fmt::format(
        "the same {} names in another order: class {} is {} there, {} here (--class-map FILE gives "
        "the order: the names of the checkpoint, one a line)",
        now.size(), there - before.begin(), there->dump(), here->dump());
  }
  return fmt::format("{} -> {} names; gone: {}; new: {}", before.size(), now.size(),
                     lacking(before, now), lacking(now, before));
}

// As it was before; a run that names none is of an older version, of one process.
int64_t images_a_step_before(const nlohmann::json& state) {
  const auto args = state.value("args", nlohmann::json::object());
  const Options usual;
  return state.value("images_a_step", args.value("batch_size", usual.batch_size) *
                                          args.value("grad_accum", usual.grad_accum));
}

// Which flag makes steps of so many images: passes of the same batch, for which there is memory, or
// else another batch.
std::string flag_for(int64_t images, const Options& o) {
  const int64_t pass = o.batch_size * o.ranks, of_batch = o.grad_accum * o.ranks;
  if (images % pass == 0)
    return fmt::format(" (--grad-accum {} makes them the same)", images / pass);
  if (images % of_batch == 0)
    return fmt::format(" (--batch-size {} makes them the same)", images / of_batch);
  return "";
}

}  // namespace

void adapt_to_data(Checkpoint& checkpoint, const Options& options, int64_t images,
                   int64_t epoch_steps, report::Console& console) {
  nlohmann::json& state = checkpoint.state;
  const auto before = state.value("train_images", images);
  if (before == images) return;
  const int64_t steps_before = before / images_a_step(options);
  const bool at_end = state.value("epoch_steps", int64_t{0}) == steps_before;
  const std::string change =
      fmt::format("the training set had {} images and has {} now", before, images);
  const int64_t epoch = state.value("epoch", int64_t{0}) + 1;
  if (at_end) {
    state["epoch_steps"] = epoch_steps;
    console.warning(fmt::format("{}; epoch {} is complete, the run goes on with the images of now",
                                change, epoch));
    return;
  }
  if (!options.accept_data_change)
    fail(ExitCode::checkpoint,
         "--resume: {}, and the checkpoint lies within epoch {}, whose order cannot be kept; give "
         "the same images, or --accept-data-change to begin that epoch again with these weights",
         change, epoch);
  state["epoch_steps"] = 0, state["evaluated"] = false;
  state["loss_sum"] = 0.0, state["loss_weight"] = 0.0;
  console.warning(fmt::format("{}; epoch {} begins again with the weights so far", change, epoch));
}

void check_same_run(const Resumable& from, const nlohmann::json& identity, const Options& options,
                    report::Console& console) {
  const nlohmann::json &before = from.checkpoint.state, none = nlohmann::json::object();
  OptionChanges c = changes(before.value("args", none), identity["args"]);
  if (const int64_t was = images_a_step_before(before); was != images_a_step(options))
    c.refused += fmt::format("  {:<22} {} -> {}{}\n", "images a step", was, images_a_step(options),
                             flag_for(was, options));
  if (const auto a = before.value("classes", nlohmann::json()); a != identity["classes"])
    c.refused += fmt::format("  {:<22} {}\n", "classes", changed_classes(a, identity["classes"]));
  if (!c.refused.empty())
    fail(ExitCode::checkpoint,
         "{}: is of another run (there -> here):\n{}resume with the same, or begin a run with its "
         "weights in another folder: {}",
         from.path.string(), c.refused,
         shell_command({"--initial-checkpoint", from.path.string(), "--output"}) + " FOLDER");
  if (const auto a = before.value("class_weights", nlohmann::json()),
      b = identity.value("class_weights", nlohmann::json());
      a != b)
    c.noted += fmt::format("  {:<22} {} -> {}\n", "class weights", a.dump(), b.dump());
  if (c.noted.empty()) return;
  c.noted.pop_back();  // the end of its last line
  console.warning(fmt::format("the run goes on differently than it began:\n{}", c.noted));
}

}  // namespace sg::train
