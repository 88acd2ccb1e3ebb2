// Images of several sizes as one batch, as detectors take them.
#pragma once
#include <span>

#include "core/tensor.h"
#include "data/image.h"

namespace sg::data {

// Maps of the last stage are whole where images are padded to multiples of it.
constexpr int kDetectionMultiple = 32;
// The multiples of kDetectionMultiple that hold an image.
ImageSize padded_size(ImageSize image);

struct PaddedImages {
  Tensor images;  // u8 (B, H, W, 3), H and W the largest padded_size(); 0 beyond an image
  Tensor valid;   // i32 (B, 2): height and width of each image
};
PaddedImages pad_images(std::span<const Image* const> images);

}  // namespace sg::data
