#include "tasks/detection_evaluator.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "data/ahead.h"
#include "data/sample_maker.h"
#include "tasks/gather.h"

namespace sg::tasks {
namespace {

// In percent; 0 where there is no object to be found.
double percent(double fraction) { return 100 * std::max(fraction, 0.0); }

Scores to_scores(const CocoScores& boxes, const CocoScores& masks) {
  return {{{"box_AP", percent(boxes[CocoScores::AP])},
           {"box_AP50", percent(boxes[CocoScores::AP50])},
           {"box_AP75", percent(boxes[CocoScores::AP75])},
           {"mask_AP", percent(masks[CocoScores::AP])},
           {"mask_AP50", percent(masks[CocoScores::AP50])},
           {"mask_AP75", percent(masks[CocoScores::AP75])}}};
}

}  // namespace

ScoreSchema detection_scores() {
  const auto of = [](const char* what, const char* name, const std::string& title) {
    return ScoreInfo{.name = fmt::format("{}_{}", what, name),
                     .label = fmt::format("{}_{}", what, name),
                     .title = title,
                     .unit = "%"};
  };
  ScoreSchema schema;
  for (const char* what : {"box", "mask"}) {
    ScoreInfo ap = of(what, "AP", fmt::format("{} AP", what));
    ap.chart =
        fmt::format("Average precision of {}", what == std::string("box") ? "boxes" : "masks");
    schema.push_back(std::move(ap));
    schema.push_back(of(what, "AP50", fmt::format("{} AP at IoU 0.5", what)));
    schema.push_back(of(what, "AP75", fmt::format("{} AP at IoU 0.75", what)));
  }
  return schema;
}

// An image on its way; `error`: why it is left out.
struct DetectionEvaluator::Sample {
  infer::ObjectDetector::View view;
  std::string error;
};

DetectionEvaluator::DetectionEvaluator(const sgformer::Detector& model,
                                       std::shared_ptr<const data::CocoDataset> dataset,
                                       const DetectionEvaluation& settings)
    : dataset_(std::move(dataset)),
      settings_(settings),
      detect_(model, settings.detector),
      found_broken_(settings.max_broken_share, dataset_->size()) {}

DetectionEvaluator::Sample DetectionEvaluator::load(int64_t i) const {
  Sample sample;
  try {
    std::vector<uint8_t> buffer;
    data::Image image;
    dataset_->open(i, buffer)->read(image);
    sample.view = detect_.view(image);
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

void DetectionEvaluator::count(int64_t i, std::vector<infer::FoundObject> found) {
  std::vector<CocoDetection> boxes, masks;
  for (const infer::FoundObject& o : found) {
    boxes.push_back({.label = o.label, .score = o.score, .box = o.box, .area = o.box.area()});
    masks.push_back(boxes.back());
    const data::MeasuredMask& mask = masks.back().mask.emplace(o.mask);
    masks.back().area = double(mask.area);
  }
  const int64_t image = dataset_->image(i);
  box_evaluation_->add(box_evaluation_->judge(image, boxes));
  mask_evaluation_->add(mask_evaluation_->judge(image, masks));
  if (settings_.keep) found_[i] = std::move(found);
}

bool DetectionEvaluator::evaluate_part(const Task::Progress& progress) {
  const int64_t n = dataset_->size(), rank = settings_.group->rank();
  const int64_t ranks = settings_.group->ranks();
  const int64_t begin = n * rank / ranks, end = n * (rank + 1) / ranks;
  data::Ahead<Sample> samples(begin, end, int(settings_.workers), settings_.workers + 1,
                              [this](int64_t i) { return load(i); });
  for (int64_t i = begin; const auto sample = samples.next(); ++i) {
    if (sample->error.empty()) {
      count(i, detect_(sample->view));
    } else {
      found_broken_.add(i, sample->error);
      found_broken_.check();
    }
    // Scores are of the whole set: of a part they mean little, and take long.
    if (!progress(i + 1 - begin, end - begin, {})) return false;
  }
  return true;
}

bool DetectionEvaluator::gather(bool complete) {
  broken_ = found_broken_.messages();
  if (settings_.group->alone()) return complete;
  const nlohmann::json mine{{"complete", complete},
                            {"broken", broken_},
                            {"boxes", to_binary(std::span(box_evaluation_->judged()))},
                            {"masks", to_binary(std::span(mask_evaluation_->judged()))}};
  box_evaluation_.emplace(dataset_->annotations(), CocoIou::boxes);
  mask_evaluation_.emplace(dataset_->annotations(), CocoIou::masks);
  broken_.clear();
  tasks::gather(*settings_.group, mine, [&](const nlohmann::json& theirs) {
    complete = complete && theirs.at("complete").get<bool>();
    broken_.merge(theirs.at("broken").get<std::map<int64_t, std::string>>());
    std::vector<JudgedDetection> boxes, masks;
    append(boxes, theirs.at("boxes")), append(masks, theirs.at("masks"));
    box_evaluation_->add(boxes), mask_evaluation_->add(masks);
  });
  return complete;
}

std::optional<Scores> DetectionEvaluator::operator()(const Task::Progress& progress) {
  box_evaluation_.emplace(dataset_->annotations(), CocoIou::boxes);
  mask_evaluation_.emplace(dataset_->annotations(), CocoIou::masks);
  found_.clear(), found_broken_.start();
  if (!gather(evaluate_part(progress))) return {};
  boxes_ = box_evaluation_->scores(), masks_ = mask_evaluation_->scores();
  return to_scores(boxes_, masks_);
}

Findings DetectionEvaluator::findings() const {
  if (boxes_.classes.empty()) return {};
  Findings f{.notes = {},
             .matrices = {},
             .tables = {scores_by_class(boxes_, masks_, dataset_->annotations())},
             .galleries = {}};
  if (skipped())
    f.notes.push_back(
        fmt::format("{} of {} validation images could not be read; nothing was found in them.",
                    skipped(), dataset_->size()));
  return f;
}

}  // namespace sg::tasks
