#include <dirent.h>
#include <strings.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "data/dataset.h"

namespace sg::data {
namespace {

constexpr const char* kExtensions[] = {".jpg", ".jpeg", ".jpe", ".png",
                                       ".bmp", ".gif",  ".ppm", ".pgm"};
constexpr int kMaxDepth = 16;  // below a class; links may lead in circles

bool is_image(std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return false;
  const std::string extension(name.substr(dot));
  return std::any_of(std::begin(kExtensions), std::end(kExtensions),
                     [&](const char* e) { return ::strcasecmp(e, extension.c_str()) == 0; });
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
    if (entry->d_name[0] != '.') {
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
             std::vector<std::string>& images, int64_t& others) {
  std::vector<std::string> folders;
  list(prefix.empty() ? folder : folder + "/" + prefix, [&](std::string name, bool is_folder) {
    if (is_folder)
      folders.push_back(prefix + name);
    else if (is_image(name))
      images.push_back(prefix + name);
    else
      ++others;
  });
  if (!folders.empty() && depth == kMaxDepth)
    fail(ExitCode::data, "{}/{}: folders nested deeper than {}; a link in a circle?", folder,
         folders[0], kMaxDepth);
  for (const auto& f : folders) collect(folder, f + "/", depth + 1, images, others);
}

// "a, b, c and 7 more"
std::string some(const std::vector<std::string>& names) {
  const size_t shown = std::min<size_t>(names.size(), 5);
  std::string text;
  for (size_t i = 0; i < shown; ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

std::vector<std::string> without(const std::vector<std::string>& a,
                                 const std::vector<std::string>& b) {
  std::vector<std::string> left;
  std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(left));
  return left;
}

}  // namespace

FolderDataset::FolderDataset(const std::string& folder, const ClassNames& expected)
    : folder_(folder) {
  list(folder, [&](std::string name, bool is_folder) {
    if (is_folder) class_names_.push_back(std::move(name));
  });
  std::sort(class_names_.begin(), class_names_.end());
  if (class_names_.empty())
    fail(ExitCode::data, "{}: expected a sub-folder a class with the images in it, found none",
         folder);
  if (!expected.empty() && class_names_ != expected) {
    const auto missing = without(expected, class_names_), extra = without(class_names_, expected);
    fail(ExitCode::data, "{}: its classes are not those of the training set: {}{}{}", folder,
         missing.empty() ? "" : "missing " + some(missing),
         !missing.empty() && !extra.empty() ? "; " : "",
         extra.empty() ? "" : "unknown " + some(extra));
  }

  std::vector<std::string> images, empty;
  int64_t others = 0;
  for (const auto& name : class_names_) {
    images.clear();
    collect(folder + "/" + name, "", 0, images, others);
    std::sort(images.begin(), images.end());
    for (const auto& p : images) {
      paths_ += p;
      starts_.push_back(paths_.size());
    }
    class_ends_.push_back(size());
    if (images.empty()) empty.push_back(name);
  }
  if (empty.empty()) return;
  fail(ExitCode::data,
       "{}: no images ({}) in {} of {} classes: {}; {} other files were seen; add images or "
       "remove the folders",
       folder, fmt::join(kExtensions, " "), empty.size(), class_names_.size(), some(empty), others);
}

int FolderDataset::label(int64_t i) const {
  return int(std::upper_bound(class_ends_.begin(), class_ends_.end(), i) - class_ends_.begin());
}

std::string FolderDataset::name(int64_t i) const {
  const uint64_t begin = starts_[size_t(i)], end = starts_[size_t(i) + 1];
  return folder_ + "/" + class_names_[size_t(label(i))] + "/" + paths_.substr(begin, end - begin);
}

std::unique_ptr<Source> FolderDataset::open(int64_t i, std::vector<uint8_t>& buffer) const {
  const std::string path = name(i);
  read_bytes(path, buffer);
  return open_image(buffer, path);
}

std::vector<std::string> images_below(const std::string& folder) {
  std::vector<std::string> images;
  int64_t others = 0;
  collect(folder, "", 0, images, others);
  if (images.empty())
    fail(ExitCode::data, "{}: no images in it or deeper; {} other files were seen", folder, others);
  std::sort(images.begin(), images.end());
  for (std::string& image : images) image = folder + (folder.ends_with('/') ? "" : "/") + image;
  return images;
}

}  // namespace sg::data
