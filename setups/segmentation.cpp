#include "setups/segmentation.h"

#include "infer/model_file.h"
#include "ops/drop_path/drop_path.h"
#include "ops/pixel_cross_entropy/pixel_cross_entropy.h"
#include "report/report.h"
#include "setups/report_samples.h"
#include "setups/setups.h"

namespace sg::setups {

using train::Options;
namespace {

constexpr int kLastStride = 32;  // pixels of the image a pixel of the last stage
ImageSize crop_of(const Options& o) {
  return o.img_size.value_or(o.model == train::kNano ? 128 : 512);
}

data::ImageScale scale_of(const Options& o) {
  if (o.image_scale) return {int((*o.image_scale)[0]), int((*o.image_scale)[1])};
  const int side = std::min(crop_of(o).height, crop_of(o).width);
  return {4 * side, side};
}

data::SegmentationTransformConfig transform(const Options& o) {
  return {.crop = crop_of(o),
          .scale = scale_of(o),
          .ratio = o.ratio_range,
          .max_class_share = o.cat_max_ratio,
          .hflip = o.hflip};
}

// The published recipe: spec of mmsegmentation's Semantic FPN 80k and UperNet 160k.
double usual_lr(const Options& o) {
  if (o.model == train::kNano) return 2e-3;
  return sgformer::parse_head(o.head) == sgformer::Head::upernet ? 6e-5 : 1e-4;
}

}  // namespace

Options segmentation_defaults(std::string_view model, std::string_view head) {
  Options o;
  o.model = model;
  o.head = head.empty() ? "semantic_fpn" : head;
  sgformer::find_config(model);
  o.batch_size = 16;
  o.min_lr = 0, o.smoothing = 0, o.model_ema_decay = 0;
  o.eval_metric = "mIoU";
  o.recovery_interval = 1000;
  if (model == train::kNano) {
    o.batch_size = 8;
    o.steps = 600, o.poly_power = 0.9, o.warmup_steps = 50, o.weight_decay = 1e-2;
  } else if (sgformer::parse_head(o.head) == sgformer::Head::upernet) {
    o.steps = 160000, o.poly_power = 1, o.warmup_steps = 1500, o.weight_decay = 1e-2;
  } else {
    o.steps = 80000, o.poly_power = 0.9, o.weight_decay = 1e-4;
  }
  return o;
}

sgformer::SegmentorConfig segmentor_config(const Options& o) {
  sgformer::SegmentorConfig c =
      sgformer::find_segmentor_config(o.model, o.head, o.num_classes.value_or(1));
  const double drop_path = c.backbone.drop_path;  // the head's, not that of classification
  c.backbone = train::apply(o, c.backbone);
  c.backbone.drop_path = o.drop_path.value_or(drop_path);
  return c;
}

data::SegmentationRequest segmentation_request(const Options& o) {
  return {.train_split = o.train_split,
          .val_split = o.val_split,
          .class_map = o.class_map,
          .ignore_index = int(o.ignore_index.value_or(data::kIgnoredLabel)),
          .reduce_zero_label = o.reduce_zero_label};
}

infer::SegmenterSettings segmenter_settings(const Options& o) {
  return {.scale = scale_of(o), .stats = train::channel_stats(o)};
}

tasks::SegmentationSettings segmentation(const Options& o) {
  return {.evaluation = {.segmenter = segmenter_settings(o),
                         .workers = train::loading_threads(o),
                         .max_broken_share = o.max_broken_share},
          .batch_size = o.batch_size,
          .step_batches = o.grad_accum,
          .seed = uint64_t(o.seed),
          .transform = transform(o),
          .auxiliary_weight = o.aux_weight,
          .schedule = {.steps = o.steps,
                       .lr = *o.lr,
                       .min_lr = o.min_lr,
                       .power = o.poly_power,
                       .warmup = {o.warmup_steps, o.warmup_ratio}}};
}

void SegmentationSetup::validate(const Options& o) const {
  static constexpr Advice kAdvice[] = {
      {"epochs", "segmentation counts in --steps"},
      {"warmup-epochs", "segmentation has --warmup-steps"},
      {"warmup-lr", "segmentation has --warmup-ratio"},
      {"scale", "segmentation has --image-scale and --ratio-range"},
      {"ratio", "segmentation keeps the shape of images"},
      {"crop-pct", "segmentation evaluates whole images (--image-scale)"},
      {"validation-batch-size", "segmentation evaluates one image after the other"},
      {"mixup", "segmentation does not mix images"},
      {"cutmix", "segmentation does not mix images"},
      {"reprob", "segmentation does not erase"},
      {"aa", "segmentation has its own photometric distortion"},
      {"color-jitter", "segmentation has its own photometric distortion"},
      {"bce-loss", "the loss of segmentation is the cross entropy of each pixel"},
      {"smoothing", "labels of pixels are not smoothed"},
      {"class-weights", "all classes of pixels weigh the same"},
      {"class-names", "--class-map names the classes of segmentation"},
      {"val-share", "segmentation needs a validation set of its own"},
      {"aug-repeats", "segmentation takes each image once an epoch"},
      {"vflip", "segmentation mirrors left to right alone (--hflip)"}};
  refuse_other_tasks(o, kAdvice);
  if (o.steps < 1) fail(ExitCode::usage, "--steps: expected at least 1, found {}", o.steps);
  transform(o).check();
  sgformer::validate(segmentor_config(o));
  // Maps of one pixel: pooled ones, and those of a crop of one cell of the last stage.
  const ImageSize crop = crop_of(o);
  const bool one_pixel = sgformer::parse_head(o.head) == sgformer::Head::upernet ||
                         std::max(crop.height, crop.width) <= kLastStride;
  if (one_pixel && o.batch_size * o.ranks == 1)
    fail(ExitCode::usage,
         "--batch-size: expected two images or more in a forward pass of all processes, found 1; "
         "{} on crops of {} x {} has maps of one pixel, and batch norm needs two values",
         o.head, crop.height, crop.width);
}

void SegmentationSetup::open_data(const Options& o) {
  const data::SegmentationRequest request = segmentation_request(o);
  training_ = std::make_shared<data::SegmentationDataset>(o.data, data::Split::train, request);
  validation_ = std::make_shared<data::SegmentationDataset>(o.data, data::Split::val, request);
}

nlohmann::json SegmentationSetup::data_to_agree_on() const {
  return sets_to_agree_on(*training_, *validation_);
}

void SegmentationSetup::resolve(Options& o) {
  resolve_classes(o, *training_);
  o.drop_path = segmentor_config(o).backbone.drop_path;
  const data::ImageScale scale = scale_of(o);
  o.img_size = crop_of(o);
  o.image_scale = {double(scale.long_side), double(scale.short_side)};
  if (!o.lr && !o.lr_base) o.lr = usual_lr(o);
  o.lr = train::peak_learning_rate(o);
  o.ignore_index = o.ignore_index.value_or(data::kIgnoredLabel);
}

nn::ParameterStore& SegmentationSetup::make_model(const Options& o) {
  model_ = std::make_unique<sgformer::Segmentor>(segmentor_config(o));
  segmenter_ = segmenter_settings(o);
  nn::ParameterStore& parameters = model_->parameters();
  parameters.set_groups(sgformer::group_rule(model_->config(), train::group_settings(o)));
  return parameters;
}

std::string SegmentationSetup::load_initial_weights(const Options& o) {
  return infer::load_initial_weights(*model_, infer::find_weights(o.initial_checkpoint),
                                     train::initial_ema(o), o.reset_head);
}

train::StepCost SegmentationSetup::cost(const Options& o) {
  const auto loss = [&](const Tensor& images) {
    const auto out = model_->forward(images, {.training = true});
    const Tensor labels = zeros({images.dim(0), images.dim(1), images.dim(2)}, Dtype::u8);
    const Tensor decode = pixel_cross_entropy(out.logits, labels);
    if (!out.aux_logits) return decode;
    return drop_path_add(decode, pixel_cross_entropy(out.aux_logits, labels), {});
  };
  // Two images, since batch norm needs two values of each channel. What the trial does to its
  // running statistics is undone.
  const Tensor before = model_->parameters().buffers().clone();
  train::StepCost cost =
      train::measure_step_cost(model_->parameters(), loss, int(usual_side()), *o.img_size, 2);
  model_->parameters().buffers().copy_(before);
  if (o.ranks == 1) cost.multiple = 2;  // no advice of one image, which UperNet refuses
  return cost;
}

tasks::Task& SegmentationSetup::make_task(const Options& o, dist::Group& group) {
  tasks::SegmentationSettings settings = segmentation(o);
  settings.evaluation.group = &group;
  task_ = std::make_unique<tasks::Segmentation>(*model_, training_, validation_, settings);
  return *task_;
}

std::string SegmentationSetup::introduce_model(const Options& o) const {
  return fmt::format("{} with {}, {:.2f} million parameters, {} classes", o.model, o.head,
                     1e-6 * double(model_->parameters().count()), *o.num_classes);
}

std::vector<std::string> SegmentationSetup::introduce_data(const Options& o) const {
  std::vector<std::string> lines{fmt::format(
      "data {}: {} training and {} validation images with labels; crops of {} x {}", o.data,
      training_->size(), validation_->size(), o.img_size->height, o.img_size->width)};
  for (const auto* dataset : {training_.get(), validation_.get()})
    lines.insert(lines.end(), dataset->remarks().begin(), dataset->remarks().end());
  lines.push_back("training: " + training_->label_histogram());
  lines.push_back("validation: " + validation_->label_histogram());
  lines.push_back(fmt::format("evaluated by {}", infer::describe(*segmenter_)));
  if (o.warmup_steps >= o.steps)
    lines.push_back(fmt::format(
        "warning: --warmup-steps {}: a run of {} steps ends before the learning rate has "
        "risen to --lr",
        o.warmup_steps, o.steps));
  return lines;
}

nlohmann::json SegmentationSetup::identity() const {
  return {{"task", infer::kSegmentation},
          {"model", sgformer::config_to_json(model_->config())},
          {"classes", training_->class_names()},
          {"class_colors", training_->palette()}};
}

std::string SegmentationSetup::describe_data(const Options& o) const {
  return fmt::format(
      "{} training and {} validation images with a label for every pixel, {} classes; crops of {} "
      "x {} pixels. Scores are of whole images: {}. mIoU is the mean over the classes of the "
      "pixels that label and prediction share over those that either has, counted over the whole "
      "set; ignored pixels count in neither.",
      report::grouped(training_->size()), report::grouped(validation_->size()), *o.num_classes,
      o.img_size->height, o.img_size->width, infer::describe(*segmenter_));
}

Gallery SegmentationSetup::samples() const {
  return report_samples(infer::Segmenter(*model_, *segmenter_), *validation_);
}

}  // namespace sg::setups
