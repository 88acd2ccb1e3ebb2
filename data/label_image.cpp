#include "data/label_image.h"

#include "data/decoders.h"

namespace sg::data {

void decode_label(Bytes bytes, std::string_view name, LabelImage& out, const DecodeLimits& limits) {
  constexpr std::string_view kSignature = "\x89PNG\r\n\x1a\n";
  if (bytes.size() < kSignature.size() ||
      std::string_view(reinterpret_cast<const char*>(bytes.data()), kSignature.size()) !=
          kSignature)
    fail(ExitCode::data,
         "{}: expected a label image as PNG, whose numbers are the classes, found another format; "
         "write it as PNG of 8 bits (JPEG would change the numbers)",
         name);
  decode_png_indices(bytes, name, limits, out);
}

std::vector<Rgb> class_palette(int64_t classes) {
  std::vector<Rgb> palette;
  for (int64_t number = 1; number <= classes; ++number) {
    Rgb colour{};
    for (int bit = 0; bit < 8; ++bit)
      for (int channel = 0; channel < 3; ++channel)
        colour[size_t(channel)] |= uint8_t((number >> (3 * bit + channel) & 1) << (7 - bit));
    palette.push_back(colour);
  }
  return palette;
}

}  // namespace sg::data
