// The options of a training run, and what they mean. Their flags: train/option_table.h.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/compute.h"
#include "data/dataset.h"
#include "data/transforms.h"
#include "nn/optim/schedule.h"
#include "ops/adamw/adamw.h"
#include "ops/normalize_images/draw_mix_erase.h"
#include "ops/normalize_images/normalize_images.h"
#include "report/report.h"
#include "sgformer/config.h"
#include "sgformer/parameter_groups.h"

namespace sg::train {

using Pair = std::array<double, 2>;
using Triple = std::array<double, 3>;

// In the groups of --help. Those left empty are decided by the model, the data or other options,
// and stay empty in args.json: see resolve() and peak_learning_rate().
struct Options {
  // Model
  std::string task = "classification", model = "sgformer_s", head;
  std::optional<int64_t> num_classes;
  std::optional<ImageSize> img_size;
  std::string guidance, scales, regions;
  bool balance_significance = false, grad_checkpointing = false;

  // Data and augmentation
  std::string data, train_split = "train", val_split = "val";
  double val_share = 0;
  std::string class_map, class_order = "name", class_names;
  std::optional<int64_t> ignore_index;
  bool reduce_zero_label = false;
  std::optional<Pair> image_scale;
  Pair ratio_range{0.5, 2};
  double cat_max_ratio = 0.75;
  bool multi_scale = false;
  double max_broken_share = 0.01;
  bool no_listing_cache = false;
  int64_t aug_repeats = 0;
  Pair scale{0.08, 1.0}, ratio{3.0 / 4.0, 4.0 / 3.0};
  double hflip = 0.5, vflip = 0;
  std::string aa = "none";
  double color_jitter = 0, color_jitter_prob = 1, grayscale_prob = 0;
  bool no_aug = false;
  std::string train_interpolation = "random";
  double mixup = 0, cutmix = 0;
  std::optional<Pair> cutmix_minmax;
  double mixup_prob = MixEraseConfig().mix_probability;
  double mixup_switch_prob = MixEraseConfig().switch_probability;
  std::string mixup_mode = "batch";
  int64_t mixup_off_epoch = 0;
  std::optional<int64_t> mixup_group;
  double reprob = 0;
  std::string remode = "pixel";
  int64_t recount = 1;
  std::optional<double> crop_pct;
  Triple mean = ChannelStats().mean, std = ChannelStats().std;

  // Optimization
  int64_t epochs = 300, cooldown_epochs = 10;
  std::optional<int64_t> warmup_epochs;
  int64_t patience_epochs = 0;
  int64_t batch_size = 128, grad_accum = 1;
  std::optional<int64_t> validation_batch_size;
  int64_t steps = 0;
  std::optional<int64_t> eval_interval;
  std::optional<double> lr, lr_base;
  int64_t lr_base_size = 256;
  std::string lr_base_scale = "sqrt";
  double min_lr = 1e-5, warmup_lr = 1e-6, layer_decay = 1;
  bool sched_on_updates = false, warmup_prefix = false;
  double poly_power = 1, warmup_ratio = 1e-6, aux_weight = 0.4;
  int64_t warmup_steps = 0;
  std::optional<Pair> decay_milestones;
  double decay_rate = 0.1;
  double opt_eps = AdamWSettings().eps;
  Pair opt_betas{AdamWSettings().beta1, AdamWSettings().beta2};
  double weight_decay = 0.05, clip_grad = 0;
  std::string clip_mode = "norm";
  std::optional<double> drop_path;
  double smoothing = 0.1;
  bool bce_loss = false, bce_sum = false;
  std::optional<double> bce_target_thresh;
  std::string class_weights;
  std::string freeze;
  std::optional<double> model_ema_decay;
  bool model_ema_warmup = false;
  int64_t seed = 42, max_steps = 0;

  // Runtime
  std::string device = "auto", dtype = "auto";
  std::optional<int64_t> threads, workers;
  bool eager = false;

  // Several processes
  int64_t ranks = 1;  // processes of the run: no flag, but what started them says it
  std::string nproc_per_node;
  int64_t max_restarts = 0;
  double dist_timeout = 300;
  std::string reduce_order = "ring", reduce_dtype = "f32";
  std::optional<double> bucket_cap_mb;

  // Output
  std::string output, experiment, resume, initial_checkpoint;
  bool accept_data_change = false, no_resume_opt = false;
  std::optional<int64_t> start_epoch;
  bool reset_head = false, ema = false, no_ema = false;
  int64_t log_interval = 50, recovery_interval = 0, checkpoint_hist = 10;
  std::string eval_metric = "top1";
  bool dry_run = false;
};

constexpr std::string_view kNano = "sgformer_nano";

// {"batch_size": 128, ...}; what is empty is left out. Texts are escaped (core/text.h).
nlohmann::json to_json(const Options& options);
// Without the options that say how one process starts (OnResume::not_kept): of an object as
// to_json() makes it, and of the words of a command line.
nlohmann::json without_start_options(nlohmann::json json);
std::vector<std::string> without_start_options(const std::vector<std::string>& command);
// What args.json holds: the options as they were given, so that a run by --config decides anew what
// was left to decide; and under "resolved", which is for people, what was decided.
nlohmann::json args_json(const Options& given, const nlohmann::json& used);
// For the report: what is used, and whether that was given and the usual recipe has it otherwise.
std::vector<report::Setting> settings(const Options& used, const Options& given,
                                      const Options& usual);
// Takes on what an args.json says; '-' and '_' are the same in names, which may be any of those of
// the flag. Throws ExitCode::usage on an unknown name (with the nearest) or a value of the wrong
// type.
void apply_json(Options& options, const nlohmann::json& json, std::string_view file);

// Throw ExitCode::usage naming the flag, what is allowed and what was found: check_ranges() of
// every number for itself, validate() of a training run whatever its task.
void check_ranges(const Options& options);
void validate(const Options& options);

// The configuration with what the options say of it in place of its own.
sgformer::Config apply(const Options& options, sgformer::Config config);
// The model, and the evaluation chain, that the options mean (num_classes must be known).
sgformer::Config model_config(const Options& options);
data::TransformConfig transforms(const Options& options);
ChannelStats channel_stats(const Options& options);
// Of all ranks and forward passes.
int64_t images_a_step(const Options& options);
// Of a slice of the gradient (nn/gradient_slices.h): --bucket-cap-mb.
int64_t slice_elements(const Options& options);
// --lr; else --lr-base (images a step / --lr-base-size), or the root of that, as timm 1; else the
// recipe's.
double peak_learning_rate(const Options& options);
// --warmup-epochs; else the recipe's, shortened where the run is no longer than that.
int64_t warmup_epochs(const Options& options);
// The published one, with what the options change of it. `epoch_steps`: steps of an epoch, which
// count with --sched-on-updates.
CosineSchedule cosine_schedule(const Options& options, int64_t epoch_steps);
// Those of warm-up, cosine and cooldown together.
int64_t total_epochs(const Options& options);
// --workers; else as many as the cores, but at least 2 and no more than timm's 8.
int64_t loading_threads(const Options& options);
sgformer::GroupSettings group_settings(const Options& options);
// All but the decay of the averaged weights where it is not given.
AdamWSettings optimizer_settings(const Options& options);
// Which weights of --initial-checkpoint; empty: the averaged ones where it has them.
std::optional<bool> initial_ema(const Options& options);
// What --data and the flags about splits and classes mean, with the classes of --class-map.
data::DatasetRequest dataset_request(const Options& options);
// Class names: of a checkpoint that knows its classes, else of --class-map; may be empty. Throws
// ExitCode::usage where both are given and differ.
data::ClassNames known_classes(const Options& options, const data::ClassNames& of_checkpoint);
// Readable class names, from --class-names or a file with a usual name in --data.
data::ClassTitles class_titles(const Options& options);

// How two runs differ: "  batch_size                 128 -> 64" a line. What an args.json does not
// have, one of an older version, is the default.
struct OptionChanges {
  std::string refused, noted;
};
OptionChanges changes(const nlohmann::json& before, const nlohmann::json& now);

}  // namespace sg::train
