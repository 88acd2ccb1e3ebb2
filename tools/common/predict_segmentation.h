// sgpredict of segmentation: each image's labels, an overlay and significance maps, as files.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "infer/model_file.h"
#include "report/console.h"
#include "tools/common/images.h"

namespace sg::tools {

// What is written of one image.
struct LabelFiles {
  std::filesystem::path labels, overlay, significance;
};

// NAME.png, NAME-overlay.png and NAME-significance.png in `folder`, which is created, for each of
// the images; numbered where two have one name. Throws ExitCode::usage where a file would be
// written over that no earlier call wrote.
std::vector<LabelFiles> label_files(const std::filesystem::path& folder,
                                    const std::vector<std::string>& images, const InputFiles& read);

struct PredictSegmentation {
  const std::vector<std::string>& images;
  const std::vector<LabelFiles>& files;
  data::ClassNames names;  // of the classes, which may be fewer
  int64_t top;             // classes named of each image, by their share of its pixels
  int64_t workers;
  std::vector<ResultWriter>& writers;  // none: a few lines an image on standard output
};
// Images that cannot be read are named and counted, and it returns ExitCode::data.
ExitCode predict_segmentation(const infer::SegmentorFile& file, std::string_view path,
                              const PredictSegmentation& what, report::Console& console);

}  // namespace sg::tools
