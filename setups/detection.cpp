#include "setups/detection.h"

#include "core/compute.h"
#include "data/coco_folder.h"
#include "data/padded_images.h"
#include "infer/model_file.h"
#include "report/report.h"
#include "setups/report_samples.h"
#include "setups/setups.h"
#include "sgformer/detect/losses.h"

namespace sg::setups {

using train::Options;
namespace {

data::ImageScale scale_of(const Options& o) {
  if (o.image_scale) {
    const auto [a, b] = *o.image_scale;
    return {int(std::max(a, b)), int(std::min(a, b))};
  }
  if (o.model == train::kNano) return {320, 192};
  return infer::ObjectDetectorSettings().scale;
}

data::DetectionTransformConfig transform(const Options& o) {
  const infer::ObjectDetectorSettings settings = object_detector_settings(o);
  return {.scale = settings.scale, .multi_scale = o.multi_scale, .hflip = o.hflip};
}

// By default 8 and 11 of 12; fewer in runs of so few epochs that they are one or none.
std::vector<int64_t> milestones(const Options& o) {
  if (o.decay_milestones)
    return {int64_t((*o.decay_milestones)[0]), int64_t((*o.decay_milestones)[1])};
  std::vector<int64_t> epochs{o.epochs * 2 / 3, o.epochs * 11 / 12};
  if (epochs[0] == epochs[1]) epochs.pop_back();
  std::erase(epochs, 0);
  return epochs;
}

// What RoI heads keep of an image for backward, besides what the backbone and its maps need: 512
// proposals of the box head, 128 of the mask head; values of f32, and their gradients.
double head_bytes(const sgformer::DetectorHeads& h) {
  const double box =
      512 * double(h.box_size * h.box_size * h.channels + 4 * h.hidden + 5 * h.classes);
  const double pixels = double(h.mask_size * h.mask_size);
  const double mask = 128 * pixels * double(9 * h.channels + 4 * (2 * h.channels + h.classes));
  return 2 * sizeof(float) * (box + mask);
}

}  // namespace

Options detection_defaults(std::string_view model) {
  Options o;
  o.model = model;
  sgformer::find_config(model);
  o.batch_size = 2, o.grad_accum = 8;  // padding and losses are those of two images
  o.epochs = 12, o.warmup_epochs = 0, o.cooldown_epochs = 0;
  o.warmup_steps = 500, o.warmup_ratio = 1e-3;
  o.min_lr = 0, o.smoothing = 0, o.model_ema_decay = 0;
  o.eval_metric = "box_AP";
  o.recovery_interval = 1000;
  if (model == train::kNano) o.grad_accum = 1, o.warmup_steps = 50;
  return o;
}

sgformer::DetectorConfig detector_config(const Options& o) {
  sgformer::DetectorConfig c = sgformer::find_detector_config(o.model, o.num_classes.value_or(1));
  c.backbone = train::apply(o, c.backbone);
  c.backbone.drop_path = o.drop_path.value_or(sgformer::detector_drop_path(o.model, o.multi_scale));
  return c;
}

infer::ObjectDetectorSettings object_detector_settings(const Options& o) {
  return {.scale = scale_of(o), .stats = train::channel_stats(o)};
}

tasks::DetectionSettings detection(const Options& o) {
  return {.evaluation = {.detector = object_detector_settings(o),
                         .workers = train::loading_threads(o),
                         .max_broken_share = o.max_broken_share},
          .batches = {.transform = transform(o),
                      .batch_size = o.batch_size,
                      .step_batches = o.grad_accum,
                      .seed = uint64_t(o.seed),
                      .workers = int(train::loading_threads(o)),
                      .max_broken_share = o.max_broken_share},
          .schedule = {.epochs = milestones(o),
                       .lr = *o.lr,
                       .gamma = o.decay_rate,
                       .warmup = {o.warmup_steps, o.warmup_ratio}}};
}

void check_detection_device(Device device) {
  if (device.type != DeviceType::cpu)
    fail(ExitCode::usage, "--device {}: detection is not implemented on GPUs; use --device cpu",
         str(device));
}

void DetectionSetup::validate(const Options& o) const {
  static constexpr Advice kAdvice[] = {
      {"steps", "detection counts in --epochs"},
      {"warmup-epochs", "detection has --warmup-steps"},
      {"warmup-lr", "detection has --warmup-ratio"},
      {"cooldown-epochs", "detection has --lr-milestones"},
      {"poly-power", "detection has --lr-milestones"},
      {"head", "the head of detection is Mask R-CNN's"},
      {"scale", "detection has --image-scale and --multi-scale"},
      {"ratio", "detection keeps the shape of images"},
      {"ratio-range", "detection has --multi-scale"},
      {"crop-pct", "detection evaluates whole images (--image-scale)"},
      {"validation-batch-size", "detection evaluates one image after the other"},
      {"mixup", "detection does not mix images"},
      {"cutmix", "detection does not mix images"},
      {"reprob", "detection does not erase"},
      {"aa", "detection resizes, crops and mirrors alone"},
      {"color-jitter", "detection resizes, crops and mirrors alone"},
      {"val-share", "detection needs a validation set of its own"},
      {"class-names", "the annotations name the classes"},
      {"aug-repeats", "detection takes each image once an epoch"},
      {"vflip", "detection mirrors left to right alone (--hflip)"}};
  refuse_other_tasks(o, kAdvice);
  if (o.img_size)
    fail(ExitCode::usage, "--img-size: detection keeps the shape of images; use --image-scale");
  if (!o.class_map.empty())
    fail(ExitCode::usage, "--class-map: of --task detection the annotations name the classes");
  check_detection_device(parse_compute(o.device, o.dtype).device);
  const std::vector<int64_t> epochs = milestones(o);
  if (o.decay_milestones && !(0 < epochs[0] && epochs[0] < epochs[1]))
    fail(ExitCode::usage, "--lr-milestones: expected epochs above 0 in order, found {} and {}",
         epochs[0], epochs[1]);
  sgformer::validate(detector_config(o));
}

void DetectionSetup::open_data(const Options& o) {
  training_ = data::open_coco_folder(o.data, o.train_split, true);
  validation_ = data::open_coco_folder(o.data, o.val_split, false);
  data::check_same_classes(*training_, *validation_);
}

nlohmann::json DetectionSetup::data_to_agree_on() const {
  return sets_to_agree_on(*training_, *validation_);
}

void DetectionSetup::resolve(Options& o) {
  resolve_classes(o, *training_);
  o.drop_path = detector_config(o).backbone.drop_path;
  const data::ImageScale scale = scale_of(o);
  o.img_size = data::padded_size({scale.short_side, scale.long_side});
  o.image_scale = {double(scale.long_side), double(scale.short_side)};
  const std::vector<int64_t> epochs = milestones(o);
  if (epochs.size() == 2) o.decay_milestones = {double(epochs[0]), double(epochs[1])};
  if (!o.lr && !o.lr_base) o.lr = o.model == train::kNano ? 1e-3 : 1e-4;
  o.lr = train::peak_learning_rate(o);
}

nn::ParameterStore& DetectionSetup::make_model(const Options& o) {
  model_ = std::make_unique<sgformer::Detector>(detector_config(o));
  evaluation_ = object_detector_settings(o);
  nn::ParameterStore& parameters = model_->parameters();
  parameters.set_groups(sgformer::group_rule(model_->config(), train::group_settings(o)));
  return parameters;
}

std::string DetectionSetup::load_initial_weights(const Options& o) {
  return infer::load_initial_weights(*model_, infer::find_weights(o.initial_checkpoint),
                                     train::initial_ema(o), o.reset_head);
}

train::StepCost DetectionSetup::cost(const Options& o) {
  // Backbone, pyramid and proposals grow with the image; the heads have as many boxes whatever its
  // size.
  const auto loss = [&](const Tensor& images) {
    const Tensor none = empty({0}, Dtype::i32);
    return sgformer::rpn_loss(
               model_->rpn(model_->pyramid(images, {})),
               {none, zeros({1}, Dtype::i32), empty({0, 4}, acc_dtype(images.dtype()))})
        .classes;
  };
  train::StepCost cost =
      train::measure_step_cost(model_->parameters(), loss, int(usual_side()), *o.img_size);
  cost.bytes += head_bytes(model_->config().heads);
  cost.usual_macs = cost.macs;  // such a size is the usual one
  return cost;
}

tasks::Task& DetectionSetup::make_task(const Options& o, dist::Group& group) {
  tasks::DetectionSettings settings = detection(o);
  settings.evaluation.group = &group;
  settings.batches.rank = group.rank(), settings.batches.ranks = group.ranks();
  task_ = std::make_unique<tasks::Detection>(*model_, training_, validation_, settings);
  return *task_;
}

std::string DetectionSetup::introduce_model(const Options& o) const {
  return fmt::format("{} with Mask R-CNN, {:.2f} million parameters, {} classes", o.model,
                     1e-6 * double(model_->parameters().count()), *o.num_classes);
}

std::vector<std::string> DetectionSetup::introduce_data(const Options& o) const {
  std::vector<std::string> lines{
      fmt::format("data {}: {} training and {} validation images with objects", o.data,
                  training_->size(), validation_->size())};
  for (const auto* dataset : {training_.get(), validation_.get()})
    lines.insert(lines.end(), dataset->remarks().begin(), dataset->remarks().end());
  lines.push_back(
      o.multi_scale
          ? "trained at shorter sides of 480 to 800, half of the images cropped"
          : fmt::format("trained and evaluated at one scale: {}", infer::describe(*evaluation_)));
  if (o.multi_scale) lines.push_back("evaluated " + infer::describe(*evaluation_));
  return lines;
}

nlohmann::json DetectionSetup::identity() const {
  return {{"task", infer::kDetection},
          {"model", sgformer::config_to_json(model_->config())},
          {"classes", training_->class_names()},
          {"category_ids", training_->annotations().category_ids()}};
}

std::string DetectionSetup::describe_data(const Options& o) const {
  return fmt::format(
      "{} training and {} validation images with objects of {} classes, {}. box_AP and mask_AP are "
      "COCO's average precision of boxes and of masks, the mean over the classes and over ten "
      "thresholds of IoU from 0.5 to 0.95.",
      report::grouped(training_->size()), report::grouped(validation_->size()), *o.num_classes,
      infer::describe(*evaluation_));
}

Gallery DetectionSetup::samples() const {
  return report_samples(infer::ObjectDetector(*model_, *evaluation_), *validation_);
}

}  // namespace sg::setups
