#include "train/classification.h"

#include <algorithm>

#include "autograd/tape.h"
#include "ops/cross_entropy/cross_entropy.h"

namespace sg::train {
namespace {

data::LoaderConfig loader_config(const EvaluationSettings& s) {
  data::LoaderConfig c;
  c.training = false;
  c.batch_size = int(s.batch_size), c.workers = int(s.workers);
  c.transform = s.transform;
  return c;
}

data::LoaderConfig loader_config(const Options& o) {
  data::LoaderConfig c;
  c.batch_size = int(o.batch_size), c.workers = int(o.workers);
  c.seed = uint64_t(o.seed);
  c.transform = transforms(o);
  return c;
}

}  // namespace

Evaluator::Evaluator(const sgformer::Model& model, std::shared_ptr<const data::Dataset> dataset,
                     const EvaluationSettings& settings)
    : model_(model), stats_(settings.stats), loader_(std::move(dataset), loader_config(settings)) {}

std::optional<Scores> Evaluator::operator()(const Task::Progress& progress) {
  const autograd::NoGrad no_grad;
  const int64_t classes = model_.config().classes;
  Mean loss, top1, top5;
  const auto scores = [&] {
    return Scores{{{"loss", loss.value()}, {"top1", top1.value()}, {"top5", top5.value()}}};
  };
  loader_.start_epoch(0);
  data::Batch batch;
  for (int64_t done = 0; loader_.next(batch);) {
    const Tensor logits = model_.forward(normalize(batch.images, stats_)).logits;
    const auto n = double(logits.dim(0));
    loss.add(soft_cross_entropy(logits, smooth_one_hot(batch.labels, classes, 0)).loss.item(), n);
    for (auto [mean, k] : {std::pair(&top1, 1), std::pair(&top5, 5)})
      mean->sum += 100 * double(top_k_hits(logits, batch.labels, k)), mean->weight += n;
    if (!progress(++done, loader_.batches(), scores())) return {};
  }
  return scores();
}

std::string describe_accuracy(const Scores& s) {
  return fmt::format("Acc@1 {:.3f} Acc@5 {:.3f} loss {:.3f}", s["top1"], s["top5"], s["loss"]);
}

Classification::Classification(sgformer::Model& model,
                               std::shared_ptr<const data::Dataset> training,
                               std::shared_ptr<const data::Dataset> validation,
                               const Options& options)
    : model_(model),
      smoothing_(options.smoothing),
      seed_(uint64_t(options.seed)),
      stats_(channel_stats(options)),
      loader_(std::move(training), loader_config(options)),
      evaluator_(model, std::move(validation),
                 {options.batch_size, options.workers, transforms(options), stats_}) {}

void Classification::start_epoch(int64_t epoch, int64_t first_batch) {
  loader_.start_epoch(epoch, first_batch);
}

Task::Loss Classification::next_loss(int64_t step, int64_t first_sample) {
  check(loader_.next(batch_), "classification: a batch is asked for after the epoch's end");
  const Tensor targets = smooth_one_hot(batch_.labels, model_.config().classes, smoothing_);
  const sgformer::Output out = model_.forward(
      normalize(batch_.images, stats_),
      {.training = true, .seed = seed_, .step = uint64_t(step), .first_sample = first_sample});
  return {soft_cross_entropy(out.logits, targets).loss, batch_.waited};
}

}  // namespace sg::train
