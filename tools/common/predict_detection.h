// sgpredict of detection: the objects of each image drawn over it, and listed.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "infer/model_file.h"
#include "report/console.h"
#include "tools/common/images.h"

namespace sg::tools {

// NAME-objects.png in `folder`, which is created, for each of the images; numbered where two have
// one name. Throws ExitCode::usage where a file would be written over that no earlier call wrote.
std::vector<std::filesystem::path> object_files(const std::filesystem::path& folder,
                                                const std::vector<std::string>& images,
                                                const InputFiles& read);

struct PredictDetection {
  const std::vector<std::string>& images;
  const std::vector<std::filesystem::path>& files;
  double score;  // of objects that are drawn and listed, at least
  int64_t workers;
  std::vector<ResultWriter>& writers;  // none: a line an object on standard output
};
// Results are COCO's, image_id being the place of the image from 1 on, with its path, the name of
// the class and the file of the drawing beside them. Images that cannot be read are named and
// counted, and it returns ExitCode::data.
ExitCode predict_detection(const infer::DetectorFile& file, std::string_view path,
                           const PredictDetection& what, report::Console& console);

}  // namespace sg::tools
