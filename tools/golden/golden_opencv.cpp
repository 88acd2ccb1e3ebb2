#include "tools/golden/golden_opencv.h"

#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/opencv_resize.h"
#include "data/transforms/photometric.h"

namespace sg::golden {
namespace {

using nlohmann::json;
using Operation = std::function<Tensor(const Tensor& input, const json& arguments)>;

// Each case of the file is an input changed by an operation.
std::vector<Row> check_cases(const Case& c, const std::map<std::string, Operation>& operations) {
  Comparison comparison(c, {0, 0});
  std::map<std::string, Tensor> inputs;
  for (const std::string& name : c.file.names())
    if (name.starts_with("input.")) inputs[name] = comparison.given(name);
  for (const std::string& name : c.file.names()) {
    if (!name.starts_with("case.")) continue;
    const json arguments = json::parse(c.text(name));
    const std::string op = arguments.at("op");
    const auto found = operations.find(op);
    check(found != operations.end(), "{}: '{}': unknown operation {}", c.file.path().string(), name,
          op);
    const Tensor& input = inputs.at(fmt::format("input.{}", arguments.at("input").get<int>()));
    comparison.add_exact(name, found->second(input, arguments));
  }
  return comparison.finish();
}

Tensor resized(const Tensor& input, const json& arguments) {
  const int height = arguments.at("height"), width = arguments.at("width");
  const int channels = int(input.dim(2));
  const data::ImageView source{input.data<uint8_t>(), int(input.dim(0)), int(input.dim(1)),
                               size_t(input.dim(1) * input.dim(2))};
  Tensor out = empty({height, width, channels}, Dtype::u8);
  if (arguments.at("interpolation") == "bilinear") {
    data::BilinearResizer()(source, {height, width}, channels, out.data<uint8_t>());
  } else {
    std::vector<int> rows, columns;
    data::nearest_positions(source.height, height, 0, height, rows);
    data::nearest_positions(source.width, width, 0, width, columns);
    data::gather_pixels(source, rows, columns, channels, out.data<uint8_t>());
  }
  return out;
}

using Pixels = std::span<uint8_t>;

// B, G, R to R, G, B or back.
void swap_channels(Pixels p) {
  for (size_t i = 0; i < p.size(); i += 3) std::swap(p[i], p[i + 2]);
}

Operation on_pixels(bool bgr_before, bool bgr_after, std::function<void(Pixels, const json&)> f) {
  return [=](const Tensor& input, const json& arguments) {
    Tensor out = input.clone();
    const Pixels pixels(out.data<uint8_t>(), out.bytes());
    if (bgr_before) swap_channels(pixels);
    f(pixels, arguments);
    if (bgr_after) swap_channels(pixels);
    return out;
  };
}

data::Photometric photometric_of(const json& a) {
  return {.brightness = a.at("brightness").get<float>(),
          .contrast = a.at("contrast").get<float>(),
          .contrast_first = a.at("contrast_first").get<int>() != 0,
          .saturation = a.at("saturation").get<float>(),
          .hue = a.at("hue").get<int>()};
}

}  // namespace

std::vector<Row> check_opencv_resize(const Case& c) {
  return check_cases(c, {{"Resize", resized}});
}

std::vector<Row> check_photometric(const Case& c) {
  const auto real = [](const json& a, const char* name) { return a.at(name).get<float>(); };
  return check_cases(
      c,
      {{"BgrToHsv", on_pixels(true, false, [](Pixels p, const json&) { data::rgb_to_hsv(p); })},
       {"HsvToBgr", on_pixels(false, true, [](Pixels p, const json&) { data::hsv_to_rgb(p); })},
       {"Brightness",
        on_pixels(true, true,
                  [=](Pixels p, const json& a) { data::scale_bytes(p, 1, real(a, "add")); })},
       {"Contrast",
        on_pixels(true, true,
                  [=](Pixels p, const json& a) { data::scale_bytes(p, real(a, "factor"), 0); })},
       {"Saturation",
        on_pixels(true, true,
                  [=](Pixels p, const json& a) { data::scale_saturation(p, real(a, "factor")); })},
       {"Hue",
        on_pixels(true, true,
                  [](Pixels p, const json& a) { data::shift_hue(p, a.at("shift").get<int>()); })},
       {"Distort", on_pixels(true, true, [](Pixels p, const json& a) {
          data::distort(p, photometric_of(a));
        })}});
}

}  // namespace sg::golden
