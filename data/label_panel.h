// Labels of pixels drawn over their image, with a legend.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "data/class_names.h"
#include "data/draw.h"
#include "data/image.h"

namespace sg::data {

// The image in grey under the colours of its labels, (H, W). What has no colour in the palette is
// ignored: dark stripes.
Image label_overlay(const Image& image, std::span<const uint8_t> labels,
                    std::span<const Rgb> palette);

// From left to right the image and an overlay of each of `labels`; below them the colours and names
// of the classes that occur, the most frequent first. A small image is enlarged so that names can
// be read; sides are at most `most` pixels.
Image label_panel(const Image& image, const std::vector<std::span<const uint8_t>>& labels,
                  const ClassNames& names, std::span<const Rgb> palette, int most = 1 << 20);
// The same of one overlay alone, at its own size.
Image overlay_with_legend(const Image& image, std::span<const uint8_t> labels,
                          const ClassNames& names, std::span<const Rgb> palette);

}  // namespace sg::data
