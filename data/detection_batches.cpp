#include "data/detection_batches.h"

#include <chrono>
#include <new>

#include "core/error.h"
#include "data/aspect_order.h"
#include "data/sample_maker.h"

namespace sg::data {
namespace {

constexpr int kReplacements = 100;  // broken samples in a row before giving up

// What is wrong with the sample; nothing where it was made.
std::optional<std::string> try_sample(const CocoDataset& dataset, int64_t index,
                                      const DetectionBatchesConfig& config, int64_t epoch,
                                      DetectionSample& out) {
  try {
    DetectionTransform(config.transform).train(dataset, index, config.seed, epoch, out);
    return {};
  } catch (const UnusableData&) {
    throw;
  } catch (const Error& e) {
    if (e.code() != ExitCode::data) throw;
    return e.what();
  } catch (const std::bad_alloc&) {
    return dataset.name(index) + ": no memory to decode it; use fewer workers";
  }
}

}  // namespace

DetectionBatches::DetectionBatches(std::shared_ptr<const CocoDataset> dataset,
                                   const DetectionBatchesConfig& config)
    : dataset_(std::move(dataset)),
      config_(config),
      broken_(config.max_broken_share, dataset_->size()) {
  for (int64_t i = 0; i < dataset_->size(); ++i) sizes_.push_back(dataset_->image_size(i));
  batches_ = int64_t(order_of(0).size()) / (config_.batch_size * config_.ranks);
}

std::vector<int64_t> DetectionBatches::order_of(int64_t epoch) const {
  return aspect_order(sizes_, config_.batch_size, config_.step_batches * config_.ranks,
                      config_.seed, epoch);
}

DetectionBatches::Made DetectionBatches::make(int64_t epoch, int64_t index) const {
  Made made;
  Random random(config_.seed, Purpose::replacement, uint64_t(epoch), uint64_t(index));
  for (int tries = 0; tries <= kReplacements; ++tries) {
    made.index = tries ? random.integer(0, dataset_->size() - 1) : index;
    const auto why = try_sample(*dataset_, made.index, config_, epoch, made.sample);
    if (!why) return made;
    made.broken.emplace_back(made.index, *why);
  }
  fail(ExitCode::data, "{}; nor can {} others be read that were chosen in its place",
       made.broken[0].second, kReplacements);
}

void DetectionBatches::start_epoch(int64_t epoch, int64_t first_batch) {
  check(epoch >= 0 && first_batch >= 0 && first_batch <= batches_,
        "detection batches: epoch {} cannot start at batch {}; it has {}", epoch, first_batch,
        batches_);
  const int64_t of_step = config_.batch_size * config_.step_batches;  // of a rank
  const auto of_rank = [&, all = order_of(epoch)](int64_t i) {
    return all[size_t((i / of_step * config_.ranks + config_.rank) * of_step + i % of_step)];
  };
  std::vector<int64_t> order;
  for (int64_t i = 0; i < batches_ * config_.batch_size; ++i) order.push_back(of_rank(i));
  samples_.reset();
  const auto end = int64_t(order.size());
  samples_.emplace(
      first_batch * config_.batch_size, end, config_.workers, config_.batch_size + config_.workers,
      [this, epoch, order = std::move(order)](int64_t i) { return make(epoch, order[size_t(i)]); });
}

bool DetectionBatches::next(DetectionBatch& batch) {
  const auto start = std::chrono::steady_clock::now();
  check(samples_.has_value(), "detection batches: next() before start_epoch()");
  std::vector<Made> made;
  std::vector<const Image*> images;
  while (int64_t(made.size()) < config_.batch_size) {
    auto sample = samples_->next();
    if (!sample) return false;
    for (const auto& [index, why] : sample->broken) broken_.add(index, why);
    broken_.check();
    made.push_back(std::move(*sample));
  }
  batch.objects.clear(), batch.indices.clear();
  for (Made& m : made) {
    images.push_back(&m.sample.image);
    batch.objects.push_back(std::move(m.sample.objects));
    batch.indices.push_back(m.index);
  }
  batch.padded = pad_images(images);
  batch.waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return true;
}

}  // namespace sg::data
