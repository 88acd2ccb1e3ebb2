#include "tasks/segmentation_evaluator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <numeric>

#include "data/ahead.h"
#include "data/sample_maker.h"
#include "tasks/gather.h"
#include "tasks/validation_loss.h"

namespace sg::tasks {
namespace {

constexpr int64_t kShown = 6;  // images of each gallery

nlohmann::json to_json(const std::vector<LabelledImage>& images) {
  nlohmann::json array = nlohmann::json::array();
  for (const auto& [score, predicted] : images)
    array.push_back({score.index, score.iou, score.accuracy, predicted.dim(0), predicted.dim(1),
                     to_binary(predicted.span<uint8_t>())});
  return array;
}

void append_images(std::vector<LabelledImage>& images, const nlohmann::json& array) {
  for (const nlohmann::json& j : array) {
    Tensor predicted = empty({j[3].get<int64_t>(), j[4].get<int64_t>()}, Dtype::u8);
    const auto& bytes = j[5].get_binary();
    check(bytes.size() == predicted.bytes(), "evaluation: labels of {} bytes, expected {}",
          bytes.size(), predicted.bytes());
    std::memcpy(predicted.raw(), bytes.data(), bytes.size());
    images.push_back({{j[0].get<int64_t>(), j[1].get<double>(), j[2].get<double>()}, predicted});
  }
}

// The worst first, of equal ones the first.
void keep_worst(std::vector<LabelledImage>& images) {
  std::ranges::stable_sort(images, {}, [](const LabelledImage& image) {
    return std::pair(image.score.iou, image.score.index);
  });
  if (int64_t(images.size()) > kShown) images.resize(size_t(kShown));
}

// Whether image i of n is one of those spread over the set.
bool is_of_spread(int64_t i, int64_t n) {
  return (i + 1) * std::min(kShown, n) / n > i * std::min(kShown, n) / n;
}

Scores to_scores(const PixelScores& s, double loss) {
  return {{{"mIoU", 100 * s.mean_iou},
           {"aAcc", 100 * s.all_accuracy},
           {"mAcc", 100 * s.mean_accuracy},
           {"loss", loss}}};
}

}  // namespace

ScoreSchema segmentation_scores() {
  return {{.name = "mIoU", .label = "mIoU", .title = "mIoU", .chart = "mIoU", .unit = "%"},
          {.name = "aAcc",
           .label = "aAcc",
           .title = "pixel accuracy",
           .chart = "Pixel accuracy",
           .unit = "%"},
          {.name = "mAcc", .label = "mAcc", .title = "mean accuracy", .unit = "%"},
          kValidationLoss};
}

// An image on its way; `error`: why it is left out.
struct SegmentationEvaluator::Sample {
  infer::Segmenter::Views views;
  data::LabelImage truth;
  std::string error;
};

SegmentationEvaluator::SegmentationEvaluator(
    const sgformer::Segmentor& model, std::shared_ptr<const data::SegmentationDataset> dataset,
    const SegmentationEvaluation& settings)
    : dataset_(std::move(dataset)),
      settings_(settings),
      segment_(model, settings.segmenter),
      confusion_(model.config().classes),
      found_broken_(settings.max_broken_share, dataset_->size()) {}

SegmentationEvaluator::Sample SegmentationEvaluator::load(int64_t i) const {
  Sample sample;
  try {
    std::vector<uint8_t> buffer;
    data::Image image;
    dataset_->open(i, buffer)->read(image);
    dataset_->read_label(i, {image.height, image.width}, buffer, sample.truth);
    sample.views = segment_.views(image);
  } catch (const data::UnusableData&) {
    throw;
  } catch (const Error& e) {
    if (e.code() != ExitCode::data) throw;
    sample.error = e.what();
  } catch (const std::bad_alloc&) {
    sample.error = dataset_->name(i) + ": no memory to decode it; use fewer workers";
  }
  return sample;
}

void SegmentationEvaluator::count(int64_t index, const data::LabelImage& truth,
                                  const infer::Segmenter::Labels& found) {
  const Tensor& predicted = found.labels;
  losses_.push_back(found.loss), loss_sum_ += found.loss;
  PixelConfusion of_image(confusion_.classes());
  of_image.add(truth.pixels, predicted.span<uint8_t>());
  confusion_.add(of_image.counts());
  if (of_image.pixels() == 0) return;
  const PixelScores scores = of_image.scores();
  const LabelledImage image{{index, scores.mean_iou, scores.all_accuracy}, predicted};
  worst_.push_back(image);
  keep_worst(worst_);
  if (is_of_spread(index, dataset_->size())) spread_.push_back(image);
}

SegmentationEvaluator::End SegmentationEvaluator::evaluate_part(const Task::Progress& progress) {
  const int64_t n = dataset_->size(), rank = settings_.group->rank();
  const int64_t ranks = settings_.group->ranks();
  const int64_t begin = n * rank / ranks, end = n * (rank + 1) / ranks;
  data::Ahead<Sample> samples(begin, end, int(settings_.workers), settings_.workers + 1,
                              [this](int64_t i) { return load(i); });
  for (int64_t i = begin; const auto sample = samples.next(); ++i) {
    if (!sample->error.empty()) {
      found_broken_.add(i, sample->error);
      found_broken_.check();
    } else {
      try {
        count(i, sample->truth, segment_(sample->views, false, &sample->truth));
      } catch (const Error& e) {
        if (e.code() != ExitCode::nonfinite) throw;
        return End::not_finite;
      }
    }
    if (!progress(i + 1 - begin, end - begin, scores())) return End::given_up;
  }
  return End::complete;
}

SegmentationEvaluator::End SegmentationEvaluator::gather(End mine) {
  broken_ = found_broken_.messages();
  if (settings_.group->alone()) return mine;
  const nlohmann::json found{{"end", int(mine)},
                             {"broken", broken_},
                             {"counts", to_binary(std::span(confusion_.counts()))},
                             {"losses", to_binary(std::span<const double>(losses_))},
                             {"worst", to_json(worst_)},
                             {"spread", to_json(spread_)}};
  confusion_ = PixelConfusion(confusion_.classes());
  broken_.clear(), losses_.clear(), worst_.clear(), spread_.clear();
  tasks::gather(*settings_.group, found, [&](const nlohmann::json& theirs) {
    mine = std::max(mine, End(theirs.at("end").get<int>()));
    broken_.merge(theirs.at("broken").get<std::map<int64_t, std::string>>());
    std::vector<int64_t> counts;
    append(counts, theirs.at("counts"));
    confusion_.add(counts);
    append(losses_, theirs.at("losses"));
    append_images(worst_, theirs.at("worst")), append_images(spread_, theirs.at("spread"));
  });
  keep_worst(worst_);
  loss_sum_ = std::accumulate(losses_.begin(), losses_.end(), 0.0);
  return mine;
}

double SegmentationEvaluator::loss() const {
  const int64_t labelled = confusion_.pixels();
  return labelled ? loss_sum_ / double(labelled) : NAN;
}

Scores SegmentationEvaluator::scores() const { return to_scores(confusion_.scores(), loss()); }

std::optional<Scores> SegmentationEvaluator::operator()(const Task::Progress& progress) {
  confusion_ = PixelConfusion(confusion_.classes());
  found_broken_.start();
  losses_.clear(), worst_.clear(), spread_.clear();
  loss_sum_ = 0;
  const End end = gather(evaluate_part(progress));
  if (end == End::given_up) return {};
  if (end == End::not_finite) return to_scores({NAN, NAN, NAN}, NAN);
  if (confusion_.pixels() == 0)
    fail(ExitCode::data, "none of the {} validation images has a labelled pixel: all are ignored",
         images());
  return scores();
}

Findings SegmentationEvaluator::findings() const {
  if (confusion_.pixels() == 0) return {};
  const data::ClassNames& names = dataset_->class_names();
  Findings f{
      .notes = {},
      .matrices = {pixel_matrix(confusion_, names)},
      .tables = {scores_by_class(confusion_, names)},
      .galleries = {
          label_gallery("Worst images",
                        "Of the lowest mIoU, from left to right: image, truth, prediction. "
                        "Striped pixels are ignored.",
                        worst_, *dataset_),
          label_gallery("Images of the validation set",
                        "Spread over the set: image, truth, prediction.", spread_, *dataset_)}};
  if (skipped())
    f.notes.push_back(
        fmt::format("{} of {} validation images could not be read, or had no label of their size; "
                    "the scores are of the others.",
                    skipped(), dataset_->size()));
  return f;
}

}  // namespace sg::tasks
