// What sgeval and sgpredict share of segmentation.
#pragma once
#include "data/segmentation_dataset.h"
#include "infer/model_file.h"
#include "infer/segmenter.h"

namespace sg::tools {

// How the run that wrote a checkpoint evaluated; of weights alone as published.
infer::SegmenterSettings segmenter_settings(const infer::SegmentorFile& file,
                                            std::string_view path);
// "2048,512": the longer and the shorter side. Throws ExitCode::usage.
data::ImageScale parse_image_scale(std::string_view text);
// "512" or "512,341": crop and stride, by default two thirds of it.
infer::SlidingWindows parse_slide(std::string_view text);

// Names for all classes of the model: "class 7" where the checkpoint has none.
data::ClassNames names_of_all(const data::ClassNames& names, int64_t classes);

}  // namespace sg::tools
