// What sgeval and sgpredict share of segmentation.
#pragma once
#include "data/segmentation_dataset.h"
#include "infer/model_file.h"
#include "infer/segmenter.h"

namespace sg::tools {

// How the run that wrote a checkpoint evaluated; of weights alone as published.
infer::SegmenterSettings segmenter_of_run(const infer::SegmentorFile& file, std::string_view path);
// A colour a class: those of the run that wrote a checkpoint, else of data::class_palette().
std::vector<data::Rgb> palette_of_run(const infer::SegmentorFile& file, std::string_view path);
// "512" or "512,341": crop and stride, by default two thirds of it.
infer::SlidingWindows parse_slide(std::string_view text);

}  // namespace sg::tools
