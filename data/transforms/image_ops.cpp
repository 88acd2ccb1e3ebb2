#include "data/transforms/image_ops.h"

#include <algorithm>
#include <numeric>

namespace sg::data {
namespace {

using Histogram = std::array<int64_t, 256>;
using Histograms = std::array<Histogram, 3>;
using LookupTables = std::array<LookupTable, 3>;

// Two of each channel, as a row of equal values would wait for its own counter.
Histograms histograms(ImageSpan image) {
  Histograms even{}, odd{};
  const size_t bytes = image.bytes();
  const uint8_t* p = image.pixels;
  size_t i = 0;
  for (; i + 6 <= bytes; i += 6)
    for (size_t c = 0; c < 3; ++c) ++even[c][p[i + c]], ++odd[c][p[i + 3 + c]];
  if (i < bytes)
    for (size_t c = 0; c < 3; ++c) ++even[c][p[i + c]];
  for (size_t c = 0; c < 3; ++c)
    for (size_t v = 0; v < 256; ++v) even[c][v] += odd[c][v];
  return even;
}

void apply_luts(ImageSpan image, const LookupTables& luts) {
  uint8_t* const end = image.pixels + image.bytes();
  for (uint8_t* p = image.pixels; p < end; p += 3) {
    const uint8_t r = luts[0][p[0]], g = luts[1][p[1]], b = luts[2][p[2]];
    p[0] = r, p[1] = g, p[2] = b;
  }
}

template <class F>
LookupTable table_of(F&& f) {
  LookupTable lut;
  for (int v = 0; v < 256; ++v) lut[size_t(v)] = uint8_t(f(v));
  return lut;
}

// What a few instructions compute on bytes needs no table.
template <class F>
void change_bytes(ImageSpan image, F&& f) {
  uint8_t* const p = image.pixels;
  const size_t bytes = image.bytes();
#pragma omp simd
  for (size_t i = 0; i < bytes; ++i) p[i] = f(p[i]);
}

int identity(int v) { return v; }

LookupTable autocontrast_table(const Histogram& h) {
  const auto used = [](int64_t n) { return n > 0; };
  const auto low = std::find_if(h.begin(), h.end(), used) - h.begin();
  const auto high = 255 - (std::find_if(h.rbegin(), h.rend(), used) - h.rbegin());
  if (high <= low) return table_of(identity);
  const double scale = 255.0 / double(high - low), offset = double(-low) * scale;
  return table_of([&](int v) { return std::clamp(int(v * scale + offset), 0, 255); });
}

LookupTable equalize_table(const Histogram& h) {
  const int64_t total = std::accumulate(h.begin(), h.end(), int64_t{0});
  const int64_t brightest = *std::find_if(h.rbegin(), h.rend(), [](int64_t n) { return n > 0; });
  const int64_t step = (total - brightest) / 255;  // 0 too where all have one value
  if (step == 0) return table_of(identity);
  int64_t n = step / 2;
  return table_of([&](int v) {
    const int64_t level = n / step;
    n += h[size_t(v)];
    return std::min<int64_t>(level, 255);
  });
}

}  // namespace

void apply_lut(ImageSpan image, const LookupTable& lut) { apply_luts(image, {lut, lut, lut}); }

void invert(ImageSpan image) {
  change_bytes(image, [](uint8_t v) { return uint8_t(255 - v); });
}

void posterize(ImageSpan image, int bits) {
  if (bits >= 8) return;
  const auto mask = uint8_t(0xFF00 >> std::max(bits, 0));
  change_bytes(image, [mask](uint8_t v) { return uint8_t(v & mask); });
}

void solarize(ImageSpan image, int threshold) {
  if (threshold > 255) return;
  const auto from = uint8_t(std::max(threshold, 0));
  change_bytes(image, [from](uint8_t v) { return v < from ? v : uint8_t(255 - v); });
}

void solarize_add(ImageSpan image, int add) {
  const auto more = uint8_t(std::min(add, 255)), most = uint8_t(255 - more);
  change_bytes(image, [=](uint8_t v) { return v < 128 ? uint8_t(std::min(v, most) + more) : v; });
}

void autocontrast(ImageSpan image) {
  const Histograms h = histograms(image);
  apply_luts(image, {autocontrast_table(h[0]), autocontrast_table(h[1]), autocontrast_table(h[2])});
}

void equalize(ImageSpan image) {
  const Histograms h = histograms(image);
  apply_luts(image, {equalize_table(h[0]), equalize_table(h[1]), equalize_table(h[2])});
}

}  // namespace sg::data
