#include "data/padded_images.h"

#include <algorithm>
#include <cstring>

namespace sg::data {

ImageSize padded_size(ImageSize image) {
  const auto padded = [](int side) {
    return (side + kDetectionMultiple - 1) / kDetectionMultiple * kDetectionMultiple;
  };
  return {padded(image.height), padded(image.width)};
}

PaddedImages pad_images(std::span<const Image* const> images) {
  ImageSize largest;
  for (const Image* image : images) {
    const ImageSize size = padded_size({image->height, image->width});
    largest = {std::max(largest.height, size.height), std::max(largest.width, size.width)};
  }
  const auto count = int64_t(images.size());
  PaddedImages padded{zeros({count, largest.height, largest.width, 3}, Dtype::u8),
                      empty({count, 2}, Dtype::i32)};
  const size_t row = size_t(largest.width) * 3;
  auto* to = padded.images.data<uint8_t>();
  auto* valid = padded.valid.data<int32_t>();
  for (const Image* image : images) {
    for (int y = 0; y < image->height; ++y)
      std::memcpy(to + size_t(y) * row, image->row(y), size_t(image->width) * 3);
    to += size_t(largest.height) * row;
    *valid++ = image->height, *valid++ = image->width;
  }
  return padded;
}

}  // namespace sg::data
