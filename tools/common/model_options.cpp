#include "tools/common/model_options.h"

#include <charconv>

namespace sg::tools {

void ModelOptions::add_to(CLI::App& app) {
  app.add_option("--guidance", guidance,
                 "significance that guides: hybrid, local, global, uniform");
  app.add_option("--scales", scales,
                 "head groups a stage, e.g. '8g,4,2,1;4g,1;2g,1' (g: global; '-': as it is)");
  app.add_option("--regions", regions,
                 "share:ranks a token, a stage, e.g. '1/4:196,1/2:56,1/4:28;-;-'");
  app.add_flag("--balance-significance", balance_significance,
               "weigh the global map by keys/49, for large images");
  app.add_flag("--grad-checkpointing", grad_checkpointing,
               "keep block inputs only and compute the rest again in backward");
  app.add_option("--num-classes", classes, "classes of the head")->check(CLI::Range(1, 1 << 24));
}

sgformer::Config ModelOptions::apply_to(sgformer::Config c) const {
  if (!guidance.empty()) c.guidance = sgformer::parse_guidance(guidance);
  if (!scales.empty()) sgformer::set_scales(c, scales);
  if (!regions.empty()) sgformer::set_regions(c, regions);
  c.balance_significance |= balance_significance;
  c.recompute |= grad_checkpointing;
  if (classes > 0) c.classes = classes;
  return c;
}

ImageSize parse_image_size(const std::string& text) {
  const auto number = [&](std::string_view s) {
    int64_t v = 0;
    const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v);
    if (ec != std::errc() || end != s.data() + s.size() || v < 1 || v > 16384)
      fail(ExitCode::usage, "img-size '{}': expected N or HxW, each from 1 to 16384", text);
    return v;
  };
  const size_t x = text.find('x');
  const int64_t h = number(std::string_view(text).substr(0, x));
  return {h, x == std::string::npos ? h : number(std::string_view(text).substr(x + 1))};
}

}  // namespace sg::tools
