// What an evaluation of semantic segmentation shows beside its scores, as plain data: scores by
// class, which classes are taken for which, and images with their truth and what was predicted.
#pragma once
#include <span>
#include <vector>

#include "core/findings.h"
#include "core/tensor.h"
#include "data/class_names.h"
#include "data/segmentation_dataset.h"
#include "tasks/pixel_confusion.h"

namespace sg::tasks {

// A row per class: its labelled pixels, IoU, accuracy, and the class that most of the others were
// taken for. Absent classes have no numbers.
Table scores_by_class(const PixelConfusion& confusion, const data::ClassNames& names);
// Rows are labels, columns what was predicted, in pixels.
Matrix pixel_matrix(const PixelConfusion& confusion, const data::ClassNames& names);

// Of one image.
struct ImageScore {
  int64_t index = 0;             // in the dataset
  double iou = 0, accuracy = 0;  // mean over its classes; of its pixels. NaN: nothing is labelled
};
struct LabelledImage {
  ImageScore score;
  Tensor predicted;  // u8 (H, W), on the CPU
};
// Image, truth and prediction of each. Those that can no longer be read are left out.
Gallery label_gallery(std::string title, std::string text, const std::vector<LabelledImage>& images,
                      const data::SegmentationDataset& dataset);

// A batch as the network sees it: images u8 (B, H, W, 3), valid i32 (B, 2) and labels u8 (B, H, W),
// on the CPU. At most `count` images spread over the batch, beside them their labels in the colours
// of a palette.
Gallery training_crops(const Tensor& images, const Tensor& valid, const Tensor& labels,
                       const data::ClassNames& names, std::span<const data::Rgb> palette,
                       int64_t count = 8);

}  // namespace sg::tasks
