#include <dirent.h>
#include <strings.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/text.h"
#include "data/dataset.h"

namespace sg::data {
namespace {

constexpr const char* kExtensions[] = {".jpg", ".jpeg", ".jpe",  ".jfif", ".png", ".webp",
                                       ".tif", ".tiff", ".avif", ".gif",  ".bmp", ".dib",
                                       ".ppm", ".pgm",  ".pbm",  ".pnm"};
// What systems leave in folders; names with a dot in front are hidden anyway.
constexpr const char* kJunk[] = {"Thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX", "@eaDir"};
constexpr int kMaxDepth = 16;  // below a class; links may lead in circles

bool is_one_of(const auto& known, const std::string& name) {
  return std::ranges::any_of(known,
                             [&](const char* k) { return ::strcasecmp(k, name.c_str()) == 0; });
}

// Files that are no images, by extension.
using LeftOut = std::map<std::string, int64_t>;

// "12 .txt, 3 .svg", the most frequent first
std::string describe(const LeftOut& files) {
  constexpr size_t kShown = 8;
  std::vector<std::pair<int64_t, std::string>> kinds;
  for (const auto& [extension, n] : files)
    kinds.emplace_back(-n, extension.empty() ? "without extension" : escape_name(extension));
  std::ranges::sort(kinds);
  std::string text;
  int64_t rest = 0;
  for (size_t i = 0; i < kinds.size(); ++i)
    if (i < kShown)
      text += fmt::format("{}{} {}", i ? ", " : "", -kinds[i].first, kinds[i].second);
    else
      rest -= kinds[i].first;
  return rest ? fmt::format("{} and {} others", text, rest) : text;
}

// The visible names of a folder: f(name, is_folder). The kind comes with the name where the file
// system tells it: a call of stat a file would take minutes for a million of them.
template <class F>
void list(const std::string& folder, F&& f) {
  DIR* dir = ::opendir(folder.c_str());
  if (!dir) fail(ExitCode::data, "{}: cannot be listed: {}", folder, std::strerror(errno));
  const std::unique_ptr<DIR, int (*)(DIR*)> closer(dir, ::closedir);
  errno = 0;
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] != '.' && !is_one_of(kJunk, entry->d_name)) {
      bool is_folder = entry->d_type == DT_DIR;
      if (entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN) {
        struct stat info;
        is_folder =
            ::stat((folder + "/" + entry->d_name).c_str(), &info) == 0 && S_ISDIR(info.st_mode);
      }
      f(std::string(entry->d_name), is_folder);
    }
    errno = 0;
  }
  if (errno != 0) fail(ExitCode::data, "{}: listing failed: {}", folder, std::strerror(errno));
}

void collect(const std::string& folder, const std::string& prefix, int depth,
             std::vector<std::string>& images, LeftOut& left_out) {
  std::vector<std::string> folders;
  list(prefix.empty() ? folder : folder + "/" + prefix, [&](std::string name, bool is_folder) {
    if (is_folder)
      folders.push_back(prefix + name);
    else if (const std::string extension = extension_of(name); is_image_extension(extension))
      images.push_back(prefix + name);
    else
      ++left_out[extension];
  });
  if (!folders.empty() && depth == kMaxDepth)
    fail(ExitCode::data, "{}/{}: folders nested deeper than {}; a link in a circle?", folder,
         folders[0], kMaxDepth);
  for (const auto& f : folders) collect(folder, f + "/", depth + 1, images, left_out);
}

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

std::string extension_of(const std::string& name) {
  const size_t dot = name.rfind('.');
  std::string extension = dot == name.npos ? "" : name.substr(dot);
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char c) { return char(std::tolower(c)); });
  return extension;
}

bool is_image_extension(const std::string& extension) { return is_one_of(kExtensions, extension); }

FolderDataset::FolderDataset(const std::string& folder, const ClassNames& classes, ClassOrder order)
    : folder_(folder) {
  ClassNames found;
  LeftOut beside, left_out;  // beside: images in no class
  list(folder, [&](std::string name, bool is_folder) {
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

  const std::set<std::string> there(found.begin(), found.end());
  std::vector<std::string> images, empty;
  for (const std::string& name : class_names_) {
    images.clear();
    folders_.push_back(unescape_name(name));
    if (there.contains(name)) collect(folder + "/" + folders_.back(), "", 0, images, left_out);
    std::sort(images.begin(), images.end());
    for (const auto& p : images) {
      paths_ += p;
      starts_.push_back(paths_.size());
    }
    class_ends_.push_back(size());
    if (images.empty()) empty.push_back(name);
  }
  const std::string others = left_out.empty() ? "no other files" : describe(left_out);
  if (size() == 0 || (classes.empty() && !empty.empty()))
    fail(ExitCode::data,
         "{}: no images ({}) in {} of {} classes: {}; left out: {}; add images or remove the "
         "folders",
         folder, fmt::join(kExtensions, " "), empty.size(), class_names_.size(), some_of(empty),
         others);
  if (!left_out.empty()) remarks_.push_back(fmt::format("{}: left out: {}", folder, others));
  if (!beside.empty())
    remarks_.push_back(fmt::format("{}: left out: {} beside the class folders, in none", folder,
                                   describe(beside)));
  if (!empty.empty())
    remarks_.push_back(fmt::format("{}: no images of {} of {} classes: {}; goes on without them",
                                   folder, empty.size(), class_names_.size(), some_of(empty)));
}

ClassNames FolderDataset::list_classes(const std::string& folder, ClassOrder order) {
  ClassNames names;
  list(folder, [&](const std::string& name, bool is_folder) {
    if (is_folder) names.push_back(escape_name(name));
  });
  sort_classes(names, order);
  return names;
}

int FolderDataset::label(int64_t i) const {
  return int(std::upper_bound(class_ends_.begin(), class_ends_.end(), i) - class_ends_.begin());
}

std::string FolderDataset::name(int64_t i) const {
  return folder_ + "/" + folders_[size_t(label(i))] + "/" + key(i);
}

std::string FolderDataset::key(int64_t i) const {
  const uint64_t begin = starts_[size_t(i)], end = starts_[size_t(i) + 1];
  return paths_.substr(begin, end - begin);
}

std::unique_ptr<Source> FolderDataset::open(int64_t i, std::vector<uint8_t>& buffer) const {
  const std::string path = name(i);
  read_bytes(path, buffer);
  return open_image(buffer, path);
}

std::vector<std::string> images_below(const std::string& folder) {
  std::vector<std::string> images;
  LeftOut left_out;
  collect(folder, "", 0, images, left_out);
  if (images.empty())
    fail(ExitCode::data, "{}: no images in it or deeper{}", folder,
         left_out.empty() ? "" : "; other files: " + describe(left_out));
  std::sort(images.begin(), images.end());
  for (std::string& image : images) image = folder + (folder.ends_with('/') ? "" : "/") + image;
  return images;
}

}  // namespace sg::data
