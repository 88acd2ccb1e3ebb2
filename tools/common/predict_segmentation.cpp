#include "tools/common/predict_segmentation.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "core/text.h"
#include "data/ahead.h"
#include "data/label_panel.h"
#include "data/png_write.h"
#include "data/resize.h"
#include "io/file.h"
#include "report/significance_image.h"
#include "tools/common/eval.h"
#include "tools/common/segmentation.h"
#include "tools/common/unique_names.h"

namespace sg::tools {
namespace fs = std::filesystem;
namespace {

constexpr int kMaxPanelPixels = 1024;  // a side of the image under significance maps

// An image on its way; `error`: why it cannot be read.
struct Loaded {
  data::Image image;
  infer::Segmenter::Views views;
  std::string error;
};

Loaded load(const std::string& path, const infer::Segmenter& segment) {
  Loaded loaded;
  try {
    std::vector<uint8_t> bytes;
    data::read_bytes(path, bytes);
    loaded.image = data::decode(bytes, path);
    loaded.views = segment.views(loaded.image);
  } catch (const Error& e) {
    if (e.code() != ExitCode::data) throw;
    loaded.error = e.what();
  }
  return loaded;
}

// The numbers of the label images that the model was trained with: class + `first`, and a colour
// each; 0 is black where it is no class.
void write_labels(const fs::path& path, const Tensor& labels, std::vector<data::Rgb> palette,
                  int first) {
  data::LabelImage image;
  image.reset(int(labels.dim(0)), int(labels.dim(1)));
  std::ranges::transform(labels.span<uint8_t>(), image.pixels.begin(),
                         [&](uint8_t label) { return uint8_t(label + first); });
  palette.insert(palette.begin(), size_t(first), data::Rgb{});
  const auto png = data::encode_label_png(image, palette);
  AtomicFile file(path);
  file.write(png.data(), png.size());
  file.commit_unsynced();
}

void write_significance(const fs::path& path, const data::Image& image,
                        const std::vector<Tensor>& maps) {
  const double factor =
      std::min(1.0, double(kMaxPanelPixels) / std::max(image.height, image.width));
  data::Image shown;
  shown.reset(std::max(int(image.height * factor), 1), std::max(int(image.width * factor), 1));
  data::Resizer()(image.view(),
                  data::Resize::whole(shown.height, shown.width, data::Filter::bilinear),
                  shown.pixels.data());
  write_png(path, report::significance_panel(shown, maps));
}

struct Share {
  int64_t index;
  std::string name;
  double share;
};
// The classes of most pixels, of equal ones the first.
std::vector<Share> largest_shares(const Tensor& labels, const data::ClassNames& names,
                                  int64_t count) {
  std::array<int64_t, 256> pixels{};
  for (const uint8_t label : labels.span<uint8_t>()) ++pixels[label];
  std::vector<Share> shares;
  for (size_t c = 0; c < pixels.size(); ++c)
    if (pixels[c])
      shares.push_back({int64_t(c), data::class_name(names, int64_t(c)),
                        double(pixels[c]) / double(labels.numel())});
  std::ranges::stable_sort(shares, std::greater(), &Share::share);
  shares.resize(size_t(std::min(count, int64_t(shares.size()))));
  return shares;
}

void add_error(std::vector<ResultWriter>& writers, const std::string& image,
               const std::string& error) {
  for (ResultWriter& w : writers)
    w.add({{"image", image}, {"error", error}},
          fmt::format("{},,,,,,,,{}\n", csv_field(image), csv_field(error)));
}

void add(std::vector<ResultWriter>& writers, const std::string& image, const LabelFiles& files,
         const std::vector<Share>& shares) {
  const auto path = [](const fs::path& p) { return escape_name(p.string()); };
  nlohmann::json object{{"image", image},
                        {"labels", path(files.labels)},
                        {"overlay", path(files.overlay)},
                        {"significance", path(files.significance)},
                        {"classes", nlohmann::json::array()}};
  std::string rows;
  for (size_t i = 0; i < shares.size(); ++i) {
    const auto& [index, name, share] = shares[i];
    object["classes"].push_back({{"index", index}, {"name", name}, {"share", share}});
    rows += fmt::format("{},{},{},{},{},{},{},{},\n", csv_field(image),
                        csv_field(path(files.labels)), csv_field(path(files.overlay)),
                        csv_field(path(files.significance)), i + 1, index, csv_field(name), share);
  }
  for (ResultWriter& w : writers) w.add(object, rows);
}

}  // namespace

std::vector<LabelFiles> label_files(const fs::path& folder, const std::vector<std::string>& images,
                                    const InputFiles& read) {
  std::error_code error;
  if (fs::create_directories(folder, error); error || !fs::is_directory(folder))
    fail(ExitCode::usage, "--output: {}: the folder cannot be created: {}", folder.string(),
         error ? error.message() : "a file of this name exists");
  const std::vector<std::string> endings{".png", "-overlay.png", "-significance.png"};
  UniqueNames unique;
  std::vector<LabelFiles> files;
  for (const std::string& image : images) {
    const std::string name = unique(fs::path(image).stem().string(), endings);
    files.push_back(
        {folder / (name + endings[0]), folder / (name + endings[1]), folder / (name + endings[2])});
    for (const fs::path& path :
         {files.back().labels, files.back().overlay, files.back().significance})
      check_output(path, read, data::is_own_png);
  }
  return files;
}

ExitCode predict_segmentation(const infer::SegmentorFile& file, std::string_view path,
                              const PredictSegmentation& what, report::Console& console) {
  const infer::Segmenter segment(*file.model, segmenter_of_run(file, path));
  const int64_t count = int64_t(what.images.size());
  bool reduced = false;
  take_of_run(file.state, "reduce_zero_label", reduced, path);
  const std::vector<data::Rgb> palette = palette_of_run(file, path);
  console.line(fmt::format("{} images {}", count, infer::describe(segment.settings())));
  data::Ahead<Loaded> images(0, count, int(count > 1 ? what.workers : 0), what.workers + 1,
                             [&](int64_t i) { return load(what.images[size_t(i)], segment); });
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
    const LabelFiles& to = what.files[size_t(i)];
    const infer::Segmenter::Labels found = segment(loaded->views, true);
    write_labels(to.labels, found.labels, palette, reduced);
    write_png(to.overlay, data::overlay_with_legend(loaded->image, found.labels.span<uint8_t>(),
                                                    what.names, palette));
    write_significance(to.significance, loaded->image, found.significance);
    const auto shares = largest_shares(found.labels, what.names, what.top);
    add(what.writers, name, to, shares);
    if (what.writers.empty()) {
      fmt::print("{} -> {}\n", escape_odd_bytes(what.images[size_t(i)]),
                 escape_odd_bytes(to.overlay.string()));
      for (const Share& s : shares) fmt::print("  {:6.2f} %  {}\n", 100 * s.share, s.name);
      std::fflush(stdout);
    }
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
