#include "setups/classification.h"

#include "infer/model_file.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "report/report.h"
#include "setups/report_samples.h"
#include "setups/setups.h"
#include "sgformer/config_json.h"
#include "tasks/class_weights.h"

namespace sg::setups {

using train::Options;

Options classification_defaults(std::string_view model) {
  Options o;
  o.model = model;
  sgformer::find_config(model);
  if (model == train::kNano) {
    o.epochs = 3, o.cooldown_epochs = 0;
    o.warmup_lr = 5e-4;
    o.scale = {1, 1}, o.ratio = {1, 1};  // so short a run learns most from whole images
  } else {
    // Not in Options itself: a run of a version that lacked them is told what is new.
    const MixEraseConfig published;
    o.aa = "rand-m9-mstd0.5-inc1";
    o.mixup = published.mixup, o.cutmix = published.cutmix;
    o.reprob = published.erase_probability;
    o.color_jitter = 0.4;  // where --aa is none
  }
  return o;
}

MixEraseConfig mix_erase(const Options& o) {
  const MixEraseConfig c{.mixup = o.mixup,
                         .cutmix = o.cutmix_minmax ? 1 : o.cutmix,  // as timm
                         .cutmix_minmax = o.cutmix_minmax,
                         .mix_probability = o.mixup_prob,
                         .switch_probability = o.mixup_switch_prob,
                         .mode = parse_mix_mode(o.mixup_mode),
                         .group = o.mixup_group.value_or(o.batch_size),
                         .erase_probability = o.no_aug ? 0 : o.reprob,
                         .erase_mode = parse_erase_mode(o.remode),
                         .erased_count = o.recount};
  if (c.mixes() && (c.group % 2 || o.batch_size % c.group))
    fail(ExitCode::usage,
         "{}: mixup and CutMix pair the images of a batch: expected an even number{}, found {}; "
         "--mixup 0 --cutmix 0 turns them off",
         o.mixup_group ? "--mixup-group" : "--batch-size",
         o.mixup_group ? fmt::format(" that divides the batch of {}", o.batch_size) : "", c.group);
  c.check();
  return c;
}

int64_t batch_multiple(const Options& o) {
  return mix_erase(o).mixes() ? o.mixup_group.value_or(2) : 1;
}

std::optional<BinaryCrossEntropy> bce(const Options& o) {
  if (o.bce_loss) {
    if (!o.class_weights.empty())
      fail(ExitCode::usage,
           "--class-weights: of the cross entropy over the classes, not of --bce-loss; give one");
    return BinaryCrossEntropy{o.bce_target_thresh, o.bce_sum};
  }
  if (o.bce_target_thresh || o.bce_sum)
    fail(ExitCode::usage, "--{}: of --bce-loss, which is missing",
         o.bce_sum ? "bce-sum" : "bce-target-thresh");
  return {};
}

tasks::ClassificationSettings classification(const Options& o) {
  return {{o.batch_size, loading_threads(o), o.max_broken_share, transforms(o), channel_stats(o),
           o.eager},
          o.grad_accum,
          uint64_t(o.seed),
          o.smoothing,
          int(o.aug_repeats),
          {},
          mix_erase(o),
          o.mixup_off_epoch,
          bce(o),
          o.validation_batch_size};
}

void ClassificationSetup::validate(const Options& o) const {
  static constexpr Advice kAdvice[] = {
      {"steps", "classification counts in --epochs; --max-steps ends a run early"},
      {"warmup-steps", "classification has --warmup-epochs"},
      {"image-scale", "classification has --img-size and --crop-pct"},
      {"ratio-range", "classification has --scale"}};
  refuse_other_tasks(o, kAdvice);
  mix_erase(o);
  bce(o);
  data::parse_class_order(o.class_order);
  Options probe = o;  // without classes of data
  probe.num_classes = o.num_classes.value_or(1);
  sgformer::validate(model_config(probe));
  transforms(probe).check();
}

void ClassificationSetup::open_data(const Options& o) {
  data::DatasetRequest request = dataset_request(o);
  training_ = data::open_dataset(o.data, data::Split::train, request);
  request.classes = training_->class_names();
  validation_ = data::open_dataset(o.data, data::Split::val, request);
  const data::ClassTitles all = class_titles(o);
  for (const std::string& name : request.classes)
    if (const auto found = all.find(name); found != all.end()) titles_.insert(*found);
}

nlohmann::json ClassificationSetup::data_to_agree_on() const {
  return sets_to_agree_on(*training_, *validation_);
}

// The images that are mixed among themselves. A checkpoint of before it was written has the batch
// as the group.
nlohmann::json ClassificationSetup::adopted(const Options& o, const nlohmann::json& before) const {
  nlohmann::json adopted = nlohmann::json::object();
  if (!o.mixup_group && mix_erase(o).mixes())
    for (const char* key : {"mixup_group", "batch_size"})
      if (before.contains(key) && adopted.empty()) adopted["mixup_group"] = before[key];
  return adopted;
}

void ClassificationSetup::resolve(Options& o) {
  batch_multiple_ = batch_multiple(o);  // a group that is as large as the batch is none
  resolve_classes(o, *training_);
  o.drop_path = model_config(o).drop_path;
  const data::TransformConfig t = transforms(o);
  o.img_size = t.img_size, o.crop_pct = t.crop_pct;
  if (const MixEraseConfig mix = mix_erase(o); mix.mixes()) o.mixup_group = mix.group;
}

nn::ParameterStore& ClassificationSetup::make_model(const Options& o) {
  model_ = std::make_unique<sgformer::Classifier>(model_config(o));
  preprocessing_ = {transforms(o), channel_stats(o)};
  nn::ParameterStore& parameters = model_->parameters();
  parameters.set_groups(sgformer::group_rule(model_->config(), group_settings(o)));
  return parameters;
}

std::string ClassificationSetup::load_initial_weights(const Options& o) {
  return infer::load_initial_weights(*model_, infer::find_weights(o.initial_checkpoint),
                                     initial_ema(o), o.reset_head);
}

train::StepCost ClassificationSetup::cost(const Options& o) {
  const auto loss = [&](const Tensor& images) {
    const Tensor logits = model_->forward(images).logits;
    return soft_cross_entropy(logits, zeros(logits.shape(), acc_dtype(logits.dtype()))).loss;
  };
  train::StepCost cost =
      train::measure_step_cost(model_->parameters(), loss, int(usual_side()), *o.img_size);
  cost.multiple = batch_multiple_;
  return cost;
}

tasks::Task& ClassificationSetup::make_task(const Options& o, dist::Group& group) {
  tasks::ClassificationSettings settings = classification(o);
  settings.class_weights = class_weights_ =
      tasks::class_weights(o.class_weights, *training_, *o.num_classes);
  settings.class_titles = titles_;
  settings.group = &group;
  task_ = std::make_unique<tasks::Classification>(*model_, training_, validation_, settings);
  return *task_;
}

std::string ClassificationSetup::introduce_model(const Options& o) const {
  return fmt::format("{}, {:.2f} million parameters, {} classes", o.model,
                     1e-6 * double(model_->parameters().count()), *o.num_classes);
}

std::vector<std::string> ClassificationSetup::introduce_data(const Options& o) const {
  std::vector<std::string> lines{
      fmt::format("data {}: {} training and {} validation images, seen at {} x {}", o.data,
                  training_->size(), validation_->size(), o.img_size->height, o.img_size->width)};
  for (const auto* dataset : {training_.get(), validation_.get()})
    lines.insert(lines.end(), dataset->remarks().begin(), dataset->remarks().end());
  return lines;
}

nlohmann::json ClassificationSetup::identity() const {
  nlohmann::json identity{{"model", sgformer::config_to_json(model_->config())},
                          {"classes", training_->class_names()},
                          {"class_titles", titles_}};
  if (!class_weights_.empty()) identity["class_weights"] = class_weights_;
  return identity;
}

std::string ClassificationSetup::describe_data(const Options& o) const {
  return fmt::format("{} training and {} validation images of {} x {} pixels, {} classes.",
                     report::grouped(training_->size()), report::grouped(validation_->size()),
                     o.img_size->height, o.img_size->width, *o.num_classes);
}

Gallery ClassificationSetup::samples() const {
  return report_samples(infer::Predictor(*model_, *preprocessing_), *validation_, titles_);
}

}  // namespace sg::setups
