#include "data/coco_folder.h"

#include <filesystem>

#include "core/error.h"
#include "data/dataset.h"

namespace sg::data {
namespace fs = std::filesystem;

std::shared_ptr<const CocoDataset> open_coco_folder(const std::string& dir,
                                                    const std::string& split, bool training) {
  std::error_code error;
  if (!fs::is_directory(dir, error))
    fail(ExitCode::data, "{}: no such folder of data; see --data", dir);
  const fs::path root(dir);
  for (const std::string& known : split_folders(split))
    for (const std::string& name : {known, known + "2017"}) {
      const fs::path file = root / "annotations" / ("instances_" + name + ".json");
      if (!fs::is_regular_file(file, error)) continue;
      for (const fs::path& images : {root / name, root / "images" / name})
        if (fs::is_directory(images, error))
          return std::make_shared<CocoDataset>(images.string(),
                                               std::make_shared<CocoAnnotations>(file), training);
      fail(ExitCode::data, "{}: expected its images in {} or {}", file.string(),
           (root / name).string(), (root / "images" / name).string());
    }
  fail(ExitCode::data,
       "{}: expected annotations/instances_{}.json or instances_{}2017.json in it, and the images "
       "in {}/ or {}2017/; --train-split and --val-split name others",
       dir, split, split, split, split);
}

void check_same_classes(const CocoDataset& a, const CocoDataset& b) {
  if (a.class_names() == b.class_names()) return;
  fail(ExitCode::data, "{} has other classes than {}: {} and {}", b.annotations().file(),
       a.annotations().file(), b.num_classes(), a.num_classes());
}

}  // namespace sg::data
