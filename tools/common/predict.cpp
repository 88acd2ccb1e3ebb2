#include "tools/common/predict.h"

#include <fmt/format.h>

namespace sg::tools {

ExitCode predict_images(infer::DatasetPredictor& predict, const data::Dataset& images,
                        const PredictImages& to, report::Console& console) {
  int64_t next = 0;
  const auto add_broken_before = [&](int64_t index) {
    for (; next < index; ++next)
      to.add({.image = images.name(next),
              .classes = {},
              .label = {},
              .error = predict.broken().at(next)});
  };
  const report::Progress progress;
  for (predict.start(); predict.next();) {
    const int64_t classes = predict.logits().dim(1);
    for (size_t i = 0; i < predict.indices().size(); ++i) {
      const int64_t index = predict.indices()[i];
      add_broken_before(index);
      to.seen(index, int64_t(i));
      const float* logits = predict.logits().data<float>() + int64_t(i) * classes;
      to.add({.image = images.name(index),
              .classes = best_guesses({logits, size_t(classes)}, to.names, to.titles, to.top),
              .label = {},
              .error = {}});
      ++next;
    }
    to.batch_done();
    console.bar(progress.text("Predict", next, images.size(),
                              fmt::format("{:.3g} images/s", double(next) / progress.seconds())));
  }
  add_broken_before(images.size());
  to.batch_done();
  if (predict.broken().empty()) return ExitCode::ok;
  console.warning(
      fmt::format("{} of {} images could not be read", predict.broken().size(), images.size()));
  return ExitCode::data;
}

}  // namespace sg::tools
