#include "tasks/segmentation.h"

#include <cmath>

#include "ops/drop_path/drop_path.h"
#include "ops/dropout2d/dropout2d.h"
#include "ops/pixel_cross_entropy/pixel_cross_entropy.h"
#include "tasks/training_loader.h"

namespace sg::tasks {
namespace {

using data::SegmentationSamples;

// Streams of random numbers of the two dropouts.
constexpr uint32_t kDecode = 0, kAuxiliary = 1;

}  // namespace

Segmentation::Segmentation(sgformer::Segmentor& model,
                           std::shared_ptr<const data::SegmentationDataset> training,
                           std::shared_ptr<const data::SegmentationDataset> validation,
                           const SegmentationSettings& settings)
    : model_(model),
      schedule_(settings.schedule),
      seed_(settings.seed),
      stats_(settings.evaluation.segmenter.stats),
      auxiliary_weight_(settings.auxiliary_weight),
      palette_(data::complete_palette(training->palette(), model.config().classes)),
      feed_(std::make_shared<SegmentationSamples>(std::move(training), settings.transform),
            training_loader(settings, settings.evaluation), model.parameters().device()),
      evaluator_(model, std::move(validation), settings.evaluation) {
  const Device device = model.parameters().device();
  const Dtype dtype = acc_dtype(model.parameters().dtype());
  const sgformer::SegmentorConfig& config = model.config();
  const Shape blocks{2 * int64_t(drop_path_rates(config.backbone).size()), batch_size()};
  if (config.backbone.drop_path > 0) drop_paths_ = {blocks, dtype, device};
  if (config.dropout > 0) {
    dropout_ = {{batch_size(), model.dropout_channels()}, dtype, device};
    if (has_auxiliary())
      aux_dropout_ = {{batch_size(), model.aux_dropout_channels()}, dtype, device};
  }
  if (has_auxiliary()) weight_ = full({1}, auxiliary_weight_, dtype, device);
  if (dist::Group& group = *settings.evaluation.group; !group.alone())
    model.set_batch_parts(&parts_.emplace(group.communicator(device)));
}

Segmentation::~Segmentation() { model_.set_batch_parts(nullptr); }

Batch Segmentation::load_batch(const BatchPosition& position) {
  const double before = feed_.waited();
  check(feed_.next(), "segmentation: a batch is asked for after the epoch's end");
  const auto step = uint64_t(position.step);
  if (drop_paths_)
    drop_paths_.update([&](Tensor& host) {
      sgformer::draw_drop_paths(model_.config().backbone, batch_size(), seed_, step,
                                position.first_sample, host.dtype(), host);
    });
  for (const auto& [draws, layer] :
       {std::pair(&dropout_, kDecode), std::pair(&aux_dropout_, kAuxiliary)})
    if (*draws)
      draws->update([&, l = layer](Tensor& host) {
        draw_dropout2d(model_.config().dropout, seed_, step, l, position.first_sample, host);
      });
  return {.position = position,
          .images = feed_.tensors()[SegmentationSamples::kImages],
          .valid = feed_.tensors()[SegmentationSamples::kValid],
          .targets = {feed_.tensors()[SegmentationSamples::kLabels]},
          .waited = feed_.waited() - before};
}

Losses Segmentation::losses(const Batch& batch) {
  const Tensor images =
      normalize_images(batch.images, stats_, model_.parameters().dtype(), {}, batch.valid);
  const sgformer::Segmentor::Output out =
      model_.forward(images, {.drop_paths = drop_paths_.on_device(),
                              .dropout = dropout_.on_device(),
                              .aux_dropout = aux_dropout_.on_device(),
                              .training = true});
  const Tensor& labels = batch.targets[0];
  const Tensor decode = pixel_cross_entropy(out.logits, labels);
  if (!out.aux_logits) return {.total = decode, .parts = {decode.detach()}};
  const Tensor aux = pixel_cross_entropy(out.aux_logits, labels);
  return {.total = drop_path_add(decode, aux, weight_), .parts = {decode.detach(), aux.detach()}};
}

std::vector<std::string> Segmentation::loss_parts() const {
  if (has_auxiliary()) return {"decode", "aux"};
  return {"decode"};
}

std::optional<double> Segmentation::chance_loss() const {
  if (model_.config().classes < 2) return {};
  return std::log(double(model_.config().classes)) *
         (1 + (has_auxiliary() ? auxiliary_weight_ : 0));
}

std::optional<Schedule> Segmentation::schedule(int64_t total_steps) const {
  PolynomialSchedule schedule = schedule_;
  schedule.steps = total_steps;
  return schedule;
}

Findings Segmentation::findings() const {
  Findings f = evaluator_.findings();
  const data::Loader& loader = feed_.loader();
  if (!feed_.tensors().empty()) {
    const std::vector<Tensor>& batch = feed_.host_tensors();
    f.galleries.insert(
        f.galleries.begin(),
        training_crops(batch[SegmentationSamples::kImages], batch[SegmentationSamples::kValid],
                       batch[SegmentationSamples::kLabels], loader.images().class_names(),
                       palette_));
  }
  if (const int64_t broken = loader.broken())
    f.notes.push_back(fmt::format(
        "{} of {} training images, or their labels, could not be read; others took their places.",
        broken, loader.images().size()));
  return f;
}

}  // namespace sg::tasks
