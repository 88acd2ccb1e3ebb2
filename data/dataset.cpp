#include "data/dataset.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"

namespace sg::data {
namespace fs = std::filesystem;

std::unique_ptr<Dataset> open_dataset(const std::string& dir, Split split,
                                      const ClassNames& expected) {
  const fs::path root(dir);
  std::error_code error;
  if (!fs::is_directory(root, error))
    fail(ExitCode::data, "{}: no such folder of data; see --data", dir);

  const std::string start = split == Split::train ? "train" : "t10k";
  // Both spellings are met: train-images-idx3-ubyte and train-images.idx3-ubyte.
  const auto idx_file = [&](std::string_view what, std::string_view kind) {
    for (const char* dot : {"-", "."})
      for (const char* end : {".gz", ""}) {
        const fs::path path = root / fmt::format("{}-{}{}{}-ubyte{}", start, what, dot, kind, end);
        if (fs::is_regular_file(path, error)) return path.string();
      }
    return std::string();
  };
  const std::string images = idx_file("images", "idx3"), labels = idx_file("labels", "idx1");
  if (!images.empty() || !labels.empty()) {
    if (images.empty() || labels.empty())
      fail(ExitCode::data, "{}: found {} but not the {} that belong to it", dir,
           images.empty() ? labels : images, images.empty() ? "images" : "labels");
    return std::make_unique<IdxDataset>(images, labels, expected);
  }

  const auto folder = [&](std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (fs::is_directory(root / name, error)) return (root / name).string();
    return std::string();
  };
  const std::string train = folder({"train"}), val = folder({"val", "validation", "valid", "test"});
  if (split == Split::train && train.empty())
    fail(ExitCode::data,
         "{}: expected a folder 'train' with a sub-folder a class, or train-images-idx3-ubyte.gz",
         dir);
  if (split == Split::val && val.empty() && !train.empty())
    fail(ExitCode::data,
         "{}: expected a folder 'val', 'validation', 'valid' or 'test' beside 'train'", dir);
  return std::make_unique<FolderDataset>(split == Split::train ? train
                                         : val.empty()         ? dir
                                                               : val,
                                         expected);
}

}  // namespace sg::data
