#include "tools/common/predict_detection.h"

#include <fmt/core.h>

#include "core/text.h"
#include "data/ahead.h"
#include "data/png_write.h"
#include "tasks/detection_findings.h"
#include "tools/common/detection.h"
#include "tools/common/unique_names.h"

namespace sg::tools {
namespace fs = std::filesystem;
namespace {

// An image on its way; `error`: why it cannot be read.
struct Loaded {
  data::Image image;
  infer::ObjectDetector::View view;
  std::string error;
};

Loaded load(const std::string& path, const infer::ObjectDetector& detect) {
  Loaded loaded;
  try {
    std::vector<uint8_t> bytes;
    data::read_bytes(path, bytes);
    loaded.image = data::decode(bytes, path);
    loaded.view = detect.view(loaded.image);
  } catch (const Error& e) {
    if (e.code() != ExitCode::data) throw;
    loaded.error = e.what();
  }
  return loaded;
}

void add_error(std::vector<ResultWriter>& writers, const std::string& image,
               const std::string& error) {
  for (ResultWriter& w : writers)
    w.add({{"image", image}, {"error", error}},
          fmt::format("{},,,,,,,,,,,{}\n", csv_field(image), csv_field(error)));
}

}  // namespace

std::vector<fs::path> object_files(const fs::path& folder, const std::vector<std::string>& images,
                                   const InputFiles& read) {
  std::error_code error;
  if (fs::create_directories(folder, error); error || !fs::is_directory(folder))
    fail(ExitCode::usage, "--output: {}: the folder cannot be created: {}", folder.string(),
         error ? error.message() : "a file of this name exists");
  const std::string ending = "-objects.png";
  UniqueNames unique;
  std::vector<fs::path> files;
  for (const std::string& image : images) {
    files.push_back(folder / (unique(fs::path(image).stem().string(), {ending}) + ending));
    check_output(files.back(), read, data::is_own_png);
  }
  return files;
}

ExitCode predict_detection(const infer::DetectorFile& file, std::string_view path,
                           const PredictDetection& what, report::Console& console) {
  const infer::ObjectDetector detect(*file.model, object_detector_of_run(file, path));
  const std::vector<int64_t> ids = category_ids_of_run(file, path);
  const auto count = int64_t(what.images.size());
  console.line(fmt::format("{} images {}", count, infer::describe(detect.settings())));
  data::Ahead<Loaded> images(0, count, int(count > 1 ? what.workers : 0), what.workers + 1,
                             [&](int64_t i) { return load(what.images[size_t(i)], detect); });
  const report::Progress progress;
  int64_t broken = 0;
  for (int64_t i = 0; const auto loaded = images.next(); ++i) {
    const std::string name = escape_name(what.images[size_t(i)]);
    if (!loaded->error.empty()) {
      ++broken;
      console.warning(escape_odd_bytes(loaded->error));
      add_error(what.writers, name, escape_odd_bytes(loaded->error));
      continue;
    }
    const fs::path& to = what.files[size_t(i)];
    std::vector<infer::FoundObject> found = detect(loaded->view);
    std::erase_if(found, [&](const infer::FoundObject& o) { return o.score < what.score; });
    write_png(to, data::draw_objects(loaded->image,
                                     tasks::drawn_objects(found, file.class_names, what.score)));
    const std::string drawn = escape_name(to.string());
    if (what.writers.empty())
      fmt::print("{} -> {}\n", escape_odd_bytes(what.images[size_t(i)]),
                 escape_odd_bytes(to.string()));
    for (const infer::FoundObject& o : found) {
      const std::string of_class = data::class_name(file.class_names, o.label);
      const int64_t id = ids[size_t(o.label)];
      nlohmann::json object = coco_result(o, i + 1, id, ResultKind::both);
      object.update({{"image", name}, {"name", of_class}, {"objects", drawn}});
      const std::string row = fmt::format(
          "{},{},{},{},{},{},{},{},{},{},{},\n", csv_field(name), csv_field(drawn), o.label, id,
          csv_field(of_class), o.score, o.box.x, o.box.y, o.box.width, o.box.height, o.mask.area());
      for (ResultWriter& w : what.writers) w.add(object, row);
      if (what.writers.empty())
        fmt::print("  {:6.2f} %  {:<20} x {:.0f} to {:.0f}, y {:.0f} to {:.0f}\n", 100 * o.score,
                   of_class, o.box.x, o.box.x + o.box.width, o.box.y, o.box.y + o.box.height);
    }
    std::fflush(stdout);
    for (ResultWriter& w : what.writers) w.flush();
    console.bar(progress.text("Predict", i + 1, count,
                              fmt::format("{:.3g} images/s", double(i + 1) / progress.seconds())));
  }
  for (ResultWriter& w : what.writers) w.finish();
  if (!broken) return ExitCode::ok;
  console.warning(fmt::format("{} of {} images could not be read", broken, count));
  return ExitCode::data;
}

}  // namespace sg::tools
