#include "tasks/classification.h"

#include <cmath>
#include <numbers>

#include "autograd/tape.h"
#include "core/backend.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "tasks/gather.h"
#include "tasks/training_images.h"
#include "tasks/training_loader.h"
#include "tasks/validation_loss.h"

namespace sg::tasks {
namespace {

constexpr size_t kImages = data::LabelledImages::kImages;
constexpr size_t kLabels = data::LabelledImages::kLabels;

data::LoaderConfig loader_config(const ClassificationSettings& s) {
  data::LoaderConfig c = training_loader(s, s);
  c.aug_repeats = s.aug_repeats;
  return c;
}

EvaluationSettings evaluation_settings(const ClassificationSettings& s) {
  EvaluationSettings evaluation = s;
  evaluation.batch_size = s.validation_batch_size.value_or(s.batch_size);
  return evaluation;
}

// The mean loss of equal probabilities over the labels; of one class nothing can be learnt. Of the
// binary cross entropy, that of a probability of 1/2 for each class, whatever the targets.
std::optional<double> loss_of_chance(const data::Dataset& training, int64_t classes,
                                     double smoothing, const std::vector<double>& weights,
                                     const std::optional<BinaryCrossEntropy>& bce) {
  if (bce) return std::numbers::ln2 * double(bce->sum_classes ? classes : 1);
  if (classes < 2) return {};
  const double each = std::log(double(classes));
  if (weights.empty()) return each;
  Mean of_labels, of_classes;
  for (int64_t i = 0; i < training.size(); ++i) of_labels.add(weights[size_t(training.label(i))]);
  for (const double w : weights) of_classes.add(w);
  return each * (1 - smoothing + smoothing * of_classes.value() / of_labels.value());
}

// Scores in the making, by the images' order: they do not depend on how images are shared.
struct Tally {
  Mean loss, top1, top5;
  void add(const std::vector<Outcome>& outcomes) {
    for (const Outcome& o : outcomes) {
      loss.add(o.loss);
      for (auto [mean, k] : {std::pair(&top1, 1), std::pair(&top5, 5)})
        mean->add(o.in_top(k) ? 100 : 0);
    }
  }
  Scores scores() const {
    return {{{"loss", loss.value()}, {"top1", top1.value()}, {"top5", top5.value()}}};
  }
};

}  // namespace

Evaluator::Evaluator(const sgformer::Classifier& model,
                     std::shared_ptr<const data::Dataset> dataset,
                     const EvaluationSettings& settings)
    : classes_(model.config().classes),
      dataset_(dataset),
      transform_(settings.transform),
      group_(*settings.group),
      predict_(model, std::move(dataset), {settings.transform, settings.stats},
               {.batch_size = settings.batch_size,
                .workers = settings.workers,
                .max_broken_share = settings.max_broken_share,
                .rank = group_.rank(),
                .ranks = group_.ranks(),
                .eager = settings.eager}) {}

std::optional<Scores> Evaluator::operator()(const Task::Progress& progress) {
  if (!gather(evaluate_part(progress))) return {};
  Tally all;
  all.add(outcomes_);
  return all.scores();
}

bool Evaluator::evaluate_part(const Task::Progress& progress) {
  const autograd::NoGrad no_grad;
  Tally so_far;
  outcomes_.clear();
  predict_.start();
  for (int64_t done = 0; predict_.next();) {
    const auto outcomes = outcomes_of(predict_.indices(), predict_.logits(), predict_.labels());
    so_far.add(outcomes);
    outcomes_.insert(outcomes_.end(), outcomes.begin(), outcomes.end());
    if (!progress(++done, predict_.batches(), so_far.scores())) return false;
  }
  return true;
}

bool Evaluator::gather(bool complete) {
  broken_ = predict_.broken();
  if (group_.alone()) return complete;
  const nlohmann::json mine{{"complete", complete},
                            {"broken", broken_},
                            {"outcomes", to_binary(std::span<const Outcome>(outcomes_))}};
  outcomes_.clear();
  tasks::gather(group_, mine, [&](const nlohmann::json& theirs) {
    complete &= theirs.at("complete").get<bool>();
    broken_.merge(theirs.at("broken").get<std::map<int64_t, std::string>>());
    append(outcomes_, theirs.at("outcomes"));
  });
  return complete;
}

Findings Evaluator::findings() const {
  if (outcomes_.empty()) return {};
  Findings f{.notes = {},
             .matrices = {},
             .tables = {accuracy_by_class(outcomes_, dataset_->class_names())},
             .galleries = mistakes(outcomes_, *dataset_, transform_)};
  if (classes_ <= kMaxConfusionClasses)
    f.matrices.push_back(confusion_matrix(outcomes_, dataset_->class_names(), classes_));
  if (!broken().empty())
    f.notes.push_back(fmt::format("{} of {} validation images could not be read and were left out.",
                                  broken().size(), dataset_->size()));
  return f;
}

ScoreSchema classification_scores() {
  return {
      {.name = "top1", .label = "Acc@1", .title = "top-1", .chart = "Top-1 accuracy", .unit = "%"},
      {.name = "top5", .label = "Acc@5", .title = "top-5", .unit = "%"},
      kValidationLoss};
}

Classification::Classification(sgformer::Classifier& model,
                               std::shared_ptr<const data::Dataset> training,
                               std::shared_ptr<const data::Dataset> validation,
                               const ClassificationSettings& settings)
    : model_(model),
      smoothing_(settings.smoothing),
      mix_erase_(settings.mix_erase),
      mix_off_epoch_(settings.mix_off_epoch),
      bce_(settings.bce),
      chance_loss_(loss_of_chance(*training, model.config().classes, smoothing_,
                                  settings.class_weights, bce_)),
      seed_(settings.seed),
      stats_(settings.stats),
      class_titles_(settings.class_titles),
      feed_(std::make_shared<data::LabelledImages>(std::move(training), settings.transform),
            loader_config(settings), model.parameters().device()),
      evaluator_(model, std::move(validation), evaluation_settings(settings)) {
  const Device device = model.parameters().device();
  const Shape shape{2 * int64_t(drop_path_rates(model.config()).size()), batch_size()};
  const Dtype dtype = acc_dtype(model.parameters().dtype());
  drop_paths_ = Draws(shape, dtype, device);
  mix_erase_.check();
  if (mix_erase_.mixes() || mix_erase_.erase_probability > 0)
    changes_ = Draws({batch_size(), kMixEraseWords}, Dtype::i32, device);
  if (const auto& weights = settings.class_weights; !weights.empty())
    class_weights_ = from_vector(weights, {model.config().classes}).to(dtype).to(device);
}

void Classification::start_epoch(int64_t epoch, int64_t first_batch) {
  epoch_ = epoch;
  feed_.start_epoch(epoch, first_batch);
}

Batch Classification::load_batch(const BatchPosition& position) {
  const double before = feed_.waited();
  check(feed_.next(), "classification: a batch is asked for after the epoch's end");
  drop_paths_.update([&](Tensor& host) {
    sgformer::draw_drop_paths(model_.config(), batch_size(), seed_, uint64_t(position.step),
                              position.first_sample, host.dtype(), host);
  });
  if (changes_) {
    const Tensor& images = feed_.tensors()[kImages];
    const int64_t h = images.dim(1), w = images.dim(2);
    MixEraseConfig config = mix_erase_;
    if (mix_off_epoch_ && epoch_ >= mix_off_epoch_) config.mixup = config.cutmix = 0;
    changes_.update([&](Tensor& host) {
      host.copy_(pack(
          draw_mix_erase(config, seed_, position.step, position.first_sample, batch_size(), h, w),
          h, w));
    });
  }
  return {.position = position,
          .images = feed_.tensors()[kImages],
          .valid = {},
          .targets = {feed_.tensors()[kLabels]},
          .waited = feed_.waited() - before};
}

Losses Classification::losses(const Batch& batch) {
  const Dtype dtype = model_.parameters().dtype();
  const Tensor targets = smooth_one_hot(batch.targets[0], model_.config().classes, smoothing_,
                                        acc_dtype(dtype), changes_.on_device(), class_weights_);
  const Tensor images = normalize_images(batch.images, stats_, dtype, changes_.on_device());
  const sgformer::Classifier::Output out =
      model_.forward(images, {.drop_paths = drop_paths_.on_device()});
  return {.total = bce_ ? binary_cross_entropy(out.logits, targets, *bce_)
                        : soft_cross_entropy(out.logits, targets).loss,
          .parts = {}};
}

Findings Classification::findings() const {
  Findings f = evaluator_.findings();
  if (!feed_.tensors().empty()) {
    const Device cpu;
    const Tensor& changes = changes_.on_device();
    f.galleries.insert(
        f.galleries.begin(),
        training_images({feed_.tensors()[kImages].to(cpu), feed_.host_tensors()[kLabels],
                         changes ? changes.to(cpu) : changes},
                        stats_, feed_.loader().images().class_names(), class_titles_));
  }
  if (const int64_t broken = feed_.loader().broken())
    f.notes.push_back(
        fmt::format("{} of {} training images could not be read; others took their places.", broken,
                    feed_.loader().images().size()));
  return f;
}

}  // namespace sg::tasks
