// What sgeval and sgpredict share of detection.
#pragma once
#include <nlohmann/json.hpp>

#include "data/coco_dataset.h"
#include "infer/model_file.h"
#include "infer/object_detector.h"

namespace sg::tools {

// How the run that wrote a checkpoint evaluated; of weights alone as published.
infer::ObjectDetectorSettings object_detector_of_run(const infer::DetectorFile& file,
                                                     std::string_view path);
// Of labels: those of the run that wrote a checkpoint, else label + 1.
std::vector<int64_t> category_ids_of_run(const infer::DetectorFile& file, std::string_view path);

// An object in the form of COCO's results, with its box, its mask, or both.
enum class ResultKind { box, mask, both };
nlohmann::json coco_result(const infer::FoundObject& object, int64_t image_id, int64_t category_id,
                           ResultKind kind);

}  // namespace sg::tools
