// Lists of the images in folders, for millions of them.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace sg::data {

// Many paths in one string.
class PathList {
 public:
  void reserve(size_t paths, size_t bytes) { ends_.reserve(paths), bytes_.reserve(bytes); }
  void add(std::string_view path) {
    bytes_ += path;
    ends_.push_back(bytes_.size());
  }
  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t i) const {
    const uint64_t begin = i ? ends_[i - 1] : 0;
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }

 private:
  std::string bytes_;
  std::vector<uint64_t> ends_;
};

// Files that are no images, by extension.
using LeftOut = std::map<std::string, int64_t>;
// "12 .txt, 3 .svg", the most frequent first
std::string describe(const LeftOut& files);

// Changes with every name that comes to a folder or goes. The time of the last change, unlike that
// of the last modification, cannot be set back (as rsync and tar do it).
struct FolderState {
  uint64_t inode = 0;
  int64_t modified = 0, changed = 0;  // ns since 1970; 0: the file system has no such times
  bool operator==(const FolderState&) const = default;
};

struct FolderListing {
  PathList images;  // sorted, relative to the folder
  LeftOut left_out;
  std::map<std::string, FolderState> folders;  // by path: "" is the folder itself
  // None of the folders has changed so recently that a later change might get the same time.
  bool settled = true;
};

std::string image_extensions();  // for messages
// ".jpg", in small letters; "" where there is none.
std::string extension_of(const std::string& name);
bool is_image_extension(const std::string& extension);
// Not hidden, and not what systems leave.
bool is_visible_name(const char* name);

// The visible names of a folder, not those that systems leave: f(name, is_folder). Throws
// ExitCode::data. Returns the state before the names were read.
FolderState list_folder(const std::string& folder,
                        const std::function<void(const std::string&, bool)>& f);

// The images in a folder and deeper. Throws ExitCode::data.
FolderListing list_images(const std::string& folder);
// Whether a listing of `folder` still holds.
bool unchanged(const std::string& folder, const FolderListing& listing);

}  // namespace sg::data
