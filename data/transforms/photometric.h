// The photometric distortion of semantic segmentation's training, with the bytes of OpenCV and
// mmsegmentation: brightness, contrast, saturation and hue, each result truncated to a byte. Each
// pixel changes by itself, so that any run of pixels is an image.
#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "core/rng.h"

namespace sg::data {

// Runs of pixels of three bytes, R, G, B or H, S, V with H in 0..179.
void rgb_to_hsv(std::span<uint8_t> pixels);
void hsv_to_rgb(std::span<uint8_t> pixels);

// factor v + add, clipped and truncated; of each channel.
void scale_bytes(std::span<uint8_t> pixels, float factor, float add);
// To HSV and back, with S scaled.
void scale_saturation(std::span<uint8_t> pixels, float factor);
// To HSV and back, with H moved; of 180.
void shift_hue(std::span<uint8_t> pixels, int shift);

// What is done, in this order but for the contrast; what is unset is left out.
struct Photometric {
  std::optional<float> brightness;  // added
  std::optional<float> contrast;    // factor
  bool contrast_first = false;      // before saturation and hue, else after
  std::optional<float> saturation;  // factor
  std::optional<int> hue;           // of 180
};
// Each with probability 1/2: brightness of -32 to 32, contrast and saturation of 0.5 to 1.5, hue of
// -18 to 17.
Photometric draw_photometric(Random& random);
void distort(std::span<uint8_t> rgb, const Photometric& changes);

}  // namespace sg::data
