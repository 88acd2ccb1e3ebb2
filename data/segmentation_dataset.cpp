#include "data/segmentation_dataset.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <numeric>
#include <tuple>

#include "core/text.h"
#include "data/sample_maker.h"

namespace sg::data {
namespace fs = std::filesystem;
namespace {

constexpr size_t kShownValues = 24;  // of a histogram

// DIR/what/split/ under any of the split's names.
std::string split_folder(const std::string& dir, const char* what, const std::string& split) {
  std::error_code error;
  if (!fs::is_directory(dir, error))
    fail(ExitCode::data, "{}: no such folder of data; see --data", dir);
  for (const std::string& name : split_folders(split))
    if (fs::is_directory(fs::path(dir) / what / name, error))
      return (fs::path(dir) / what / name).string() + "/";
  fail(ExitCode::data,
       "{}: expected a folder {}/{} in it, for images in images/{}/ and their labels, PNGs of the "
       "same names, in annotations/{}/; --train-split and --val-split name other folders",
       dir, what, split, split, split);
}

std::string_view without_extension(std::string_view path) {
  const size_t name = path.rfind('/') + 1;  // 0 without a folder
  const size_t dot = path.rfind('.');
  return dot == path.npos || dot <= name ? path : path.substr(0, dot);
}

// For each image the index of its label: of the same path but for the extension.
std::vector<int64_t> labels_of(const PathList& images, const PathList& labels, int64_t missing) {
  const auto is_png = [&](int64_t i) {
    return labels[size_t(i)].ends_with(".png") || labels[size_t(i)].ends_with(".PNG");
  };
  std::vector<int64_t> order(labels.size());
  std::iota(order.begin(), order.end(), 0);
  const auto stem = [&](int64_t i) { return without_extension(labels[size_t(i)]); };
  std::ranges::sort(order, [&](int64_t a, int64_t b) {
    return std::tuple(stem(a), !is_png(a), labels[size_t(a)]) <
           std::tuple(stem(b), !is_png(b), labels[size_t(b)]);
  });
  std::vector<int64_t> found;
  for (size_t i = 0; i < images.size(); ++i) {
    const std::string_view wanted = without_extension(images[i]);
    const auto at = std::ranges::lower_bound(order, wanted, {}, stem);
    found.push_back(at != order.end() && stem(*at) == wanted ? *at : missing);
  }
  return found;
}

std::string find_classes(const std::string& dir) {
  std::error_code error;
  for (const char* name : {"classes.txt", "objectInfo150.csv", "objectInfo150.txt"})
    if (fs::is_regular_file(fs::path(dir) / name, error)) return (fs::path(dir) / name).string();
  fail(ExitCode::data,
       "{}: expected classes.txt in it, a line 'number<tab>name' for each class with its number in "
       "the label images; or --class-map FILE",
       dir);
}

}  // namespace

SegmentationDataset::SegmentationDataset(const std::string& dir, Split split,
                                         const SegmentationRequest& request)
    : request_(request) {
  const std::string& folder = split == Split::train ? request.train_split : request.val_split;
  image_folder_ = split_folder(dir, "images", folder);
  label_folder_ = split_folder(dir, "annotations", folder);
  SegmentationClasses classes = read_segmentation_classes(
      request.class_map.empty() ? find_classes(dir) : request.class_map, request.reduce_zero_label);
  class_names_ = std::move(classes.names), palette_ = std::move(classes.palette);
  for (int value = 0; value < 256; ++value) {
    const int shifted = request.reduce_zero_label && value < 255 ? value - 1 : value;
    const bool ignored = value == request.ignore_index ||
                         (request.reduce_zero_label && (value == 0 || value == 255));
    is_valid_[size_t(value)] = ignored || shifted < num_classes();
    class_of_[size_t(value)] = ignored ? kIgnoredLabel : uint8_t(shifted);
  }

  FolderListing listing = list_images(image_folder_);
  images_ = std::move(listing.images);
  if (images_.size() == 0)
    fail(ExitCode::data, "{}: no images ({}) in it", image_folder_, image_extensions());
  if (!listing.left_out.empty())
    remarks_.push_back(fmt::format("{}: left out: {}", image_folder_, describe(listing.left_out)));
  labels_ = list_images(label_folder_).images;
  label_of_ = labels_of(images_, labels_, kMissing);
  const int64_t missing = std::ranges::count(label_of_, kMissing);
  const std::string first =
      missing ? label_file(std::ranges::find(label_of_, kMissing) - label_of_.begin()) : "";
  if (missing == size())
    fail(ExitCode::data, "{}: no image has a label; that of {} would be {}", image_folder_, name(0),
         first);
  if (missing > 0)
    remarks_.push_back(fmt::format("{}: {} of {} images have no label, the first {}", image_folder_,
                                   missing, size(), first));
}

std::string SegmentationDataset::label_path(int64_t i) const {
  const int64_t label = label_of_[size_t(i)];
  if (label != kMissing) return std::string(labels_[size_t(label)]);
  return fs::path(images_[size_t(i)]).replace_extension(".png").string();
}

std::string SegmentationDataset::identity(int64_t i) const { return key(i) + '\0' + label_path(i); }

std::unique_ptr<Source> SegmentationDataset::open(int64_t i, std::vector<uint8_t>& buffer) const {
  const std::string path = name(i);
  read_bytes(path, buffer);
  return open_image(buffer, path);
}

void SegmentationDataset::read_label(int64_t i, ImageSize image, std::vector<uint8_t>& buffer,
                                     LabelImage& out) const {
  const std::string file = label_file(i);
  read_bytes(file, buffer);
  decode_label(buffer, file, out);
  if (out.height != image.height || out.width != image.width)
    fail(ExitCode::data, "{}: the label is {} x {} pixels (width x height), its image {} x {}",
         file, out.width, out.height, image.width, image.height);
  bool valid = true;
  for (const uint8_t value : out.pixels) valid &= is_valid_[value];
  if (!valid) refuse_label(i, out);
  for (uint8_t& value : out.pixels) value = class_of_[value];
}

// "0 to 18 (classes), 255 (ignored)", in terms of the files.
std::string SegmentationDataset::valid_values() const {
  const int first = request_.reduce_zero_label ? 1 : 0;
  std::string text =
      fmt::format("{} to {} ({} classes)", first, first + num_classes() - 1, num_classes());
  if (request_.reduce_zero_label) text += ", 0 (--reduce-zero-label)";
  return text + fmt::format(", {} (--ignore-index)", request_.ignore_index);
}

void SegmentationDataset::refuse_label(int64_t i, const LabelImage& label) const {
  const auto at = std::ranges::find_if(label.pixels, [&](uint8_t v) { return !is_valid_[v]; });
  const auto place = size_t(at - label.pixels.begin()), width = size_t(label.width);
  throw UnusableData(fmt::format(
      "{}: value {} at row {}, column {} is no class: expected {}; check the list of classes "
      "(classes.txt, --class-map), --reduce-zero-label (classes numbered from 1, 0 for none) and "
      "--ignore-index (the value of pixels without a class)",
      label_file(i), *at, place / width, place % width, valid_values()));
}

std::string SegmentationDataset::label_histogram(int64_t files) const {
  std::array<int64_t, 256> pixels{};
  int64_t read = 0, total = 0;
  std::string unreadable;  // why the first of them is
  std::vector<uint8_t> buffer;
  LabelImage label;
  const int64_t n = std::min(files, size());
  for (int64_t k = 0; k < n; ++k) try {
      const std::string file = label_file(k * size() / n);
      read_bytes(file, buffer);
      decode_label(buffer, file, label);
      for (const uint8_t value : label.pixels) ++pixels[value];
      total += int64_t(label.pixels.size()), ++read;
    } catch (const Error& e) {
      if (e.code() != ExitCode::data) throw;
      if (unreadable.empty()) unreadable = e.what();
    }
  if (read == 0)
    return fmt::format("warning: none of {} label images can be read, the first: {}", n,
                       unreadable);
  std::vector<int> values, unknown;
  for (int v = 0; v < 256; ++v)
    if (pixels[size_t(v)] > 0) {
      values.push_back(v);
      if (!is_valid_[size_t(v)]) unknown.push_back(v);
    }
  std::vector<int> shown = values;  // the most frequent, in order
  const auto kept = std::min(shown.size(), kShownValues);
  std::ranges::partial_sort(shown, shown.begin() + std::ptrdiff_t(kept), std::greater(),
                            [&](int v) { return pixels[size_t(v)]; });
  shown.resize(kept);
  std::ranges::sort(shown);
  std::vector<std::string> words;
  for (const int v : shown) {
    const uint8_t c = class_of_[size_t(v)];
    words.push_back(fmt::format("{} ({}) {:.1f} %", v,
                                !is_valid_[size_t(v)] ? "no class"
                                : c == kIgnoredLabel  ? "ignored"
                                                      : class_names_[c],
                                100.0 * double(pixels[size_t(v)]) / double(total)));
  }
  if (kept < values.size()) words.push_back(fmt::format("{} more", values.size() - kept));
  std::string text =
      fmt::format("values in {} of {} label images: {}", read, size(), fmt::join(words, ", "));
  if (!unknown.empty())
    text += fmt::format(
        "\nwarning: {} of these values are no class: {}; expected {}; check the list of classes, "
        "--reduce-zero-label and --ignore-index",
        unknown.size(), fmt::join(unknown, ", "), valid_values());
  if (values == std::vector{0, 255} && request_.ignore_index == 255)
    text +=
        "\nwarning: only 0 and 255 occur, and 255 is ignored (--ignore-index), so there is "
        "nothing to learn: write masks with the number of the class, 1, in place of 255";
  else if (std::ranges::all_of(values, [&](int v) {
             return is_valid_[size_t(v)] && class_of_[size_t(v)] == kIgnoredLabel;
           }))
    text +=
        "\nwarning: all these pixels are ignored (--ignore-index, --reduce-zero-label): none has a "
        "class";
  if (!request_.reduce_zero_label && pixels[0] == 0 && num_classes() > 1)
    text += fmt::format(
        "\nwarning: 0 ({}) does not occur; where classes are numbered from 1, --reduce-zero-label",
        class_names_[0]);
  return text;
}

}  // namespace sg::data
