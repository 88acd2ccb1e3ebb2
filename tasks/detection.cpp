#include "tasks/detection.h"

#include "ops/drop_path/drop_path.h"

namespace sg::tasks {
namespace {

using sgformer::TrainingObjects;

// Those that have an area in the resized image: a sliver may have been rounded away.
TrainingObjects objects_of(const std::vector<data::DetectionObject>& objects, ImageSize image) {
  TrainingObjects result{.image = image, .padded = data::padded_size(image)};
  std::vector<const data::RleMask*> masks;
  for (const data::DetectionObject& o : objects) {
    const auto& [x1, y1, x2, y2] = o.box;
    if (!(x2 > x1 && y2 > y1)) continue;
    result.boxes.push_back({x1, y1, x2, y2});
    result.labels.push_back(o.label);
    masks.push_back(&o.mask);
  }
  result.mask = [masks = std::move(masks)](int64_t object, uint8_t* pixels) {
    data::rle_to_pixels(*masks[size_t(object)], pixels);
  };
  return result;
}

}  // namespace

Detection::Detection(sgformer::Detector& model, std::shared_ptr<const data::CocoDataset> training,
                     std::shared_ptr<const data::CocoDataset> validation,
                     const DetectionSettings& settings)
    : model_(model),
      schedule_(settings.schedule),
      stats_(settings.evaluation.detector.stats),
      feed_(std::move(training), settings.batches),
      evaluator_(model, std::move(validation), settings.evaluation) {
  const sgformer::Config& backbone = model.config().backbone;
  if (backbone.drop_path > 0)
    drop_paths_ = {{2 * int64_t(sgformer::drop_path_rates(backbone).size()), batch_size()},
                   acc_dtype(model.parameters().dtype()),
                   model.parameters().device()};
}

Batch Detection::load_batch(const BatchPosition& position) {
  check(feed_.next(batch_), "detection: a batch is asked for after the epoch's end");
  if (drop_paths_)
    drop_paths_.update([&](Tensor& host) {
      sgformer::draw_drop_paths(model_.config().backbone, batch_size(), feed_.config().seed,
                                uint64_t(position.step), position.first_sample, host.dtype(), host);
    });
  return {.position = position,
          .images = batch_.padded.images,
          .valid = batch_.padded.valid,
          .targets = {},
          .waited = batch_.waited,
          .any_shape = true};
}

Losses Detection::losses(const Batch& batch) {
  const auto* valid = batch.valid.data<int32_t>();
  std::vector<TrainingObjects> objects;
  for (size_t b = 0; b < batch_.objects.size(); ++b)
    objects.push_back(objects_of(batch_.objects[b], {valid[2 * b], valid[2 * b + 1]}));
  const nn::ParameterStore& parameters = model_.parameters();
  const Tensor images =
      normalize_images(batch.images.to(parameters.device()), stats_, parameters.dtype(), {},
                       batch.valid.to(parameters.device()));
  const sgformer::TargetDraw draw{feed_.config().seed, uint64_t(batch.position.step),
                                  uint64_t(batch.position.first_sample)};
  const sgformer::DetectorLosses losses = sgformer::training_losses(
      model_, images, objects, draw, {.drop_paths = drop_paths_.on_device()});
  return {.total = losses.total, .parts = losses.parts};
}

std::vector<std::string> Detection::loss_parts() const {
  return {sgformer::kDetectorLosses.begin(), sgformer::kDetectorLosses.end()};
}

std::optional<Schedule> Detection::schedule(int64_t) const {
  MilestoneSchedule schedule{
      .milestones = {}, .lr = schedule_.lr, .gamma = schedule_.gamma, .warmup = schedule_.warmup};
  const int64_t epoch_steps = batches() / feed_.config().step_batches;
  for (const int64_t epoch : schedule_.epochs) schedule.milestones.push_back(epoch * epoch_steps);
  return schedule;
}

Findings Detection::findings() const {
  Findings f = evaluator_.findings();
  if (!batch_.objects.empty())
    f.galleries.insert(f.galleries.begin(), training_objects(batch_, feed_.dataset()));
  if (const size_t broken = feed_.broken_samples().size())
    f.notes.push_back(
        fmt::format("{} of {} training images could not be read; others took their places.", broken,
                    feed_.dataset().size()));
  return f;
}

}  // namespace sg::tasks
