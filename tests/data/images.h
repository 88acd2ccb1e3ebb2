// Images for tests: made from formulas and encoded in memory.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/rng.h"
#include "data/image.h"

namespace sg::test {

using Bytes = std::vector<uint8_t>;

data::Image noise(int height, int width, uint64_t seed = 1);
// Smooth colours under noise, so that a wrong pixel shows and encoders work as on photographs.
data::Image scene(int height, int width, uint64_t seed = 1);

struct JpegOptions {
  int channels = 3;          // 1: the red channel; 4: CMYK as Adobe writes it
  int across = 2, down = 2;  // chroma subsampling
  int chroma_across = 1;     // sampling factor of the second channel, 1 in practice
  bool progressive = false, arithmetic = false;
  int restart_rows = 0;
  int quality = 85;
};
Bytes jpeg(const data::Image& image, const JpegOptions& options = {});
Bytes png(data::Image image, bool interlaced = false);
Bytes ppm(const data::Image& image);

Bytes decode_all(const Bytes& file);  // its pixels
inline std::string text(const Bytes& b) { return {b.begin(), b.end()}; }
Bytes read(const std::string& path);

}  // namespace sg::test
