#include "tools/common/segmentation.h"

#include <algorithm>

#include "core/text.h"
#include "io/json.h"
#include "tools/common/eval.h"

namespace sg::tools {
namespace {

std::optional<std::pair<int, int>> two_numbers(std::string_view text) {
  const size_t comma = text.find_first_of(",x");
  if (comma == text.npos) return {};
  const auto a = parse_integer(text.substr(0, comma)), b = parse_integer(text.substr(comma + 1));
  if (!a || !b || *a < 1 || *b < 1 || std::max(*a, *b) > 1 << 16) return {};
  return std::pair(int(*a), int(*b));
}

}  // namespace

infer::SegmenterSettings segmenter_of_run(const infer::SegmentorFile& file, std::string_view path) {
  infer::SegmenterSettings settings;
  settings.stats = file.preprocessing.stats;
  std::array<double, 2> scale{};
  nlohmann::json crop;
  if (take_of_run(file.state, "image_scale", scale, path)) {
    settings.scale = {.long_side = int(scale[0]), .short_side = int(scale[1])};
  } else if (take_of_run(file.state, "img_size", crop, path)) {
    const auto size = image_size_from_json(crop);
    if (!size)
      fail(ExitCode::checkpoint, "{}: img_size: {}; it is of another version", path, crop.dump());
    const int side = std::min(size->height, size->width);
    settings.scale = {.long_side = 4 * side, .short_side = side};
  }
  return settings;
}

std::vector<data::Rgb> palette_of_run(const infer::SegmentorFile& file, std::string_view path) {
  std::vector<data::Rgb> colors;
  try {
    if (file.state.contains("class_colors")) file.state["class_colors"].get_to(colors);
  } catch (const nlohmann::json::exception& e) {
    fail(ExitCode::checkpoint, "{}: class_colors: {}; it is of another version", path, e.what());
  }
  return data::complete_palette(std::move(colors), file.model->config().classes);
}

infer::SlidingWindows parse_slide(std::string_view text) {
  if (const auto both = two_numbers(text)) return {both->first, both->second};
  const auto crop = parse_integer(text);
  if (!crop || *crop < 1 || *crop > 1 << 16)
    fail(ExitCode::usage,
         "--slide: expected the windows' side and their stride, as in 512,341, "
         "found '{}'",
         text);
  return {int(*crop), std::max(int(*crop * 2 / 3), 1)};
}

}  // namespace sg::tools
