#include "data/folder_listing.h"

#include <dirent.h>
#include <fmt/format.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>

#include "core/error.h"
#include "core/text.h"

namespace sg::data {
namespace {

constexpr const char* kExtensions[] = {".jpg", ".jpeg", ".jpe",  ".jfif", ".png", ".webp",
                                       ".tif", ".tiff", ".avif", ".gif",  ".bmp", ".dib",
                                       ".ppm", ".pgm",  ".pbm",  ".pnm"};
// What systems leave in folders; names with a dot in front are hidden anyway.
constexpr const char* kJunk[] = {"Thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX", "@eaDir"};
constexpr int kMaxDepth = 16;  // links may lead in circles
// The coarsest clock of a file system (FAT).
constexpr std::chrono::nanoseconds kClockGrain = std::chrono::seconds(2);

bool is_one_of(const auto& known, const char* name) {
  return std::ranges::any_of(known, [&](const char* k) { return ::strcasecmp(k, name) == 0; });
}

int64_t nanoseconds(const timespec& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

// Of a file system in user space nobody knows where the times of its folders come from.
bool has_times(int folder) {
  constexpr auto kFuse = 0x65735546;
  struct statfs info;
  return ::fstatfs(folder, &info) == 0 && info.f_type != kFuse;
}

FolderState state_of(const struct stat& info) {
  return {info.st_ino, nanoseconds(info.st_mtim), nanoseconds(info.st_ctim)};
}

bool is_settled(const FolderState& state) {
  const std::chrono::nanoseconds now = std::chrono::system_clock::now().time_since_epoch();
  return state.changed > 0 && state.changed < (now - kClockGrain).count();
}

void collect(const std::string& folder, const std::string& below, int depth,
             std::vector<std::string>& images, FolderListing& listing) {
  const std::string prefix = below.empty() ? "" : below + "/";
  std::vector<std::string> folders;
  const FolderState state = list_folder(
      below.empty() ? folder : folder + "/" + below, [&](const std::string& name, bool is_folder) {
        if (is_folder)
          folders.push_back(prefix + name);
        else if (const std::string extension = extension_of(name); is_image_extension(extension))
          images.push_back(prefix + name);
        else
          ++listing.left_out[extension];
      });
  listing.settled &= is_settled(state);
  listing.folders.emplace(below, state);
  if (!folders.empty() && depth == kMaxDepth)
    fail(ExitCode::data, "{}/{}: folders nested deeper than {}; a link in a circle?", folder,
         folders[0], kMaxDepth);
  for (const auto& f : folders) collect(folder, f, depth + 1, images, listing);
}

}  // namespace

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

std::string image_extensions() { return fmt::format("{}", fmt::join(kExtensions, " ")); }

std::string extension_of(const std::string& name) {
  const size_t dot = name.rfind('.');
  std::string extension = dot == name.npos ? "" : name.substr(dot);
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char c) { return char(std::tolower(c)); });
  return extension;
}

bool is_image_extension(const std::string& extension) {
  return is_one_of(kExtensions, extension.c_str());
}

bool is_visible_name(const char* name) { return name[0] != '.' && !is_one_of(kJunk, name); }

FolderState list_folder(const std::string& folder,
                        const std::function<void(const std::string&, bool)>& f) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(folder.c_str()), ::closedir);
  struct stat info;
  if (!dir || ::fstat(::dirfd(dir.get()), &info) != 0)
    fail(ExitCode::data, "{}: cannot be listed: {}", folder, std::strerror(errno));
  errno = 0;
  while (const dirent* entry = ::readdir(dir.get())) {
    if (is_visible_name(entry->d_name)) {
      // The kind comes with the name where the file system tells it: a call of stat a file would
      // take minutes for a million of them.
      bool is_folder = entry->d_type == DT_DIR;
      if (entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN) {
        struct stat target;
        is_folder = ::fstatat(::dirfd(dir.get()), entry->d_name, &target, 0) == 0 &&
                    S_ISDIR(target.st_mode);
      }
      f(entry->d_name, is_folder);
    }
    errno = 0;
  }
  if (errno != 0) fail(ExitCode::data, "{}: listing failed: {}", folder, std::strerror(errno));
  return has_times(::dirfd(dir.get())) ? state_of(info) : FolderState{};
}

FolderListing list_images(const std::string& folder) {
  FolderListing listing;
  std::vector<std::string> images;
  collect(folder, "", 0, images, listing);
  std::sort(images.begin(), images.end());
  size_t bytes = 0;
  for (const std::string& image : images) bytes += image.size();
  listing.images.reserve(images.size(), bytes);
  for (const std::string& image : images) listing.images.add(image);
  return listing;
}

bool unchanged(const std::string& folder, const FolderListing& listing) {
  return std::ranges::all_of(listing.folders, [&](const auto& known) {
    struct stat info;
    return ::stat((folder + "/" + known.first).c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
           state_of(info) == known.second;
  });
}

}  // namespace sg::data
