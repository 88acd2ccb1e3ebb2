// A folder of data for detection, as COCO's is: DIR/annotations/instances_train2017.json beside
// DIR/train2017/.
#pragma once
#include "data/coco_dataset.h"

namespace sg::data {

// `split` as split_folders(), with or without a year behind it: instances_SPLIT.json in
// DIR/annotations, and the images in DIR/SPLIT or DIR/images/SPLIT. Throws ExitCode::data naming
// what is missing.
std::shared_ptr<const CocoDataset> open_coco_folder(const std::string& dir,
                                                    const std::string& split, bool training);

// Throws ExitCode::data where two sets do not have the same classes in the same order.
void check_same_classes(const CocoDataset& a, const CocoDataset& b);

}  // namespace sg::data
