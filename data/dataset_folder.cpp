#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "data/dataset.h"
#include "data/listing_cache.h"

namespace sg::data {
namespace {

// A warning about class names that look the same; "" where none do.
std::string twins(const ClassNames& names) {
  const auto pairs = look_alikes(names);
  if (pairs.empty()) return "";
  const auto& [a, b] = pairs[0];
  return fmt::format(
      "'{}' ({} bytes) and '{}' ({} bytes) seem to be the same{}: Unicode has two forms of "
      "accented letters, NFC and NFD, and file systems keep them apart",
      a, a.size(), b, b.size(),
      pairs.size() > 1 ? fmt::format(", and {} more pairs", pairs.size() - 1) : "");
}

// The names of `a` that are not in `b`.
ClassNames without(const ClassNames& a, const ClassNames& b) {
  ClassNames left;
  const std::set<std::string> others(b.begin(), b.end());
  for (const std::string& name : a)
    if (!others.contains(name)) left.push_back(name);
  return left;
}

}  // namespace

FolderDataset::FolderDataset(const std::string& folder, const ClassNames& classes, ClassOrder order,
                             const std::string& cache) {
  ClassNames found;
  LeftOut beside, left_out;  // beside: images in no class
  list_folder(folder, [&](const std::string& name, bool is_folder) {
    const std::string extension = extension_of(name);
    if (is_folder)
      found.push_back(escape_name(name));
    else
      ++(is_image_extension(extension) ? beside : left_out)[extension];
  });
  if (found.empty())
    fail(ExitCode::data, "{}: expected a sub-folder per class with the images in it, found none{}",
         folder, beside.empty() ? "" : fmt::format("; {} lie beside", describe(beside)));
  sort_classes(found, order);
  if (const ClassNames unknown = without(found, classes); !classes.empty() && !unknown.empty()) {
    ClassNames both = classes;
    both.insert(both.end(), unknown.begin(), unknown.end());
    const std::string same = twins(both);
    fail(ExitCode::data,
         "{}: classes that the model or the training set does not have: {}; remove or rename the "
         "folders; its {} classes are {}{}{}",
         folder, some_of(unknown), classes.size(), some_of(classes), same.empty() ? "" : "; ",
         same);
  }
  if (const std::string same = twins(found); !same.empty())
    remarks_.push_back(fmt::format("{}: {}; here they are two classes", folder, same));
  class_names_ = classes.empty() ? found : classes;

  std::vector<std::string> there;  // as bytes
  for (const std::string& name : found) there.push_back(unescape_name(name));
  auto [listings, remark] = list_classes_of(folder, there, cache);
  if (!remark.empty()) remarks_.push_back(remark);
  std::map<std::string, size_t> places;
  for (size_t i = 0; i < found.size(); ++i) places[found[i]] = i;
  ClassNames empty;
  for (const std::string& name : class_names_) {
    FolderListing listing;
    if (const auto place = places.find(name); place != places.end())
      listing = std::move(listings[place->second]);
    for (const auto& [extension, count] : listing.left_out) left_out[extension] += count;
    if (listing.images.size() == 0) empty.push_back(name);
    folders_.push_back(folder + "/" + unescape_name(name) + "/");
    images_.push_back(std::move(listing.images));
    class_ends_.push_back(size() + int64_t(images_.back().size()));
  }
  const std::string others = left_out.empty() ? "no other files" : describe(left_out);
  if (size() == 0 || (classes.empty() && !empty.empty()))
    fail(ExitCode::data,
         "{}: no images ({}) in {} of {} classes: {}; left out: {}; add images or remove the "
         "folders",
         folder, image_extensions(), empty.size(), class_names_.size(), some_of(empty), others);
  if (!left_out.empty()) remarks_.push_back(fmt::format("{}: left out: {}", folder, others));
  if (!beside.empty())
    remarks_.push_back(fmt::format("{}: left out: {} beside the class folders, in none", folder,
                                   describe(beside)));
  remark_empty_classes(folder, empty);
}

ClassNames FolderDataset::list_classes(const std::string& folder, ClassOrder order) {
  ClassNames names;
  list_folder(folder, [&](const std::string& name, bool is_folder) {
    if (is_folder) names.push_back(escape_name(name));
  });
  sort_classes(names, order);
  return names;
}

int FolderDataset::label(int64_t i) const {
  return int(std::upper_bound(class_ends_.begin(), class_ends_.end(), i) - class_ends_.begin());
}

std::string FolderDataset::name(int64_t i) const { return folders_[size_t(label(i))] + key(i); }

std::string FolderDataset::key(int64_t i) const {
  const auto c = size_t(label(i));
  return std::string(images_[c][size_t(i - (c ? class_ends_[c - 1] : 0))]);
}

std::unique_ptr<Source> FolderDataset::open(int64_t i, std::vector<uint8_t>& buffer) const {
  const std::string path = name(i);
  read_bytes(path, buffer);
  return open_image(buffer, path);
}

std::vector<std::string> images_below(const std::string& folder) {
  const FolderListing listing = list_images(folder);
  if (listing.images.size() == 0)
    fail(ExitCode::data, "{}: no images in it or deeper{}", folder,
         listing.left_out.empty() ? "" : "; other files: " + describe(listing.left_out));
  const std::string prefix = folder + (folder.ends_with('/') ? "" : "/");
  std::vector<std::string> images;
  for (size_t i = 0; i < listing.images.size(); ++i)
    images.push_back(prefix + std::string(listing.images[i]));
  return images;
}

}  // namespace sg::data
