#include "tools/golden/golden_images.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>

#include "core/error.h"
#include "data/transforms.h"
#include "data/transforms/affine.h"
#include "data/transforms/enhance.h"
#include "data/transforms/image_ops.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace sg::tools {
namespace {

using data::Image;
using nlohmann::json;

bool is_augment(const Safetensors& file) {
  if (file.metadata().contains("module")) return false;  // a form of its own
  for (const auto& [name, text] : file.metadata())
    if (file.contains(name) && text.find("\"op\"") != std::string::npos) return true;
  return false;
}

bool is_eval_chain(const Safetensors& file) {
  const Metadata& m = file.metadata();
  return m.contains("crop_pct") && m.contains("size") && m.contains("filter");
}

data::Filter filter_of(const std::string& name) {
  return data::parse_interpolation(name) == data::Interpolation::bicubic ? data::Filter::bicubic
                                                                         : data::Filter::bilinear;
}
data::Filter filter_of(const json& c) { return filter_of(c.at("filter").get<std::string>()); }

void warp(Image& image, const data::AffineMatrix& matrix, const json& c) {
  std::vector<uint8_t> scratch;
  data::affine(image.span(), matrix, filter_of(c), c.at("fill").get<data::Rgb>(), scratch);
}

void resize(Image& image, const data::ImageView& source, const data::Resize& to) {
  Image out;
  out.reset(int(to.height), int(to.width));
  data::Resizer()(source, to, out.pixels.data());
  image = std::move(out);
}

// By timm's name of the operation in a case's metadata, whose other entries are its arguments.
using Operation = std::function<void(Image& image, const json& c)>;
const std::map<std::string, Operation>& operations() {
  using namespace data;
  const auto real = [](const json& c, const char* name) { return c.at(name).get<double>(); };
  const auto whole = [](const json& c, const char* name) { return c.at(name).get<int>(); };
  static const std::map<std::string, Operation> all{
      {"AutoContrast", [](Image& i, const json&) { autocontrast(i.span()); }},
      {"Equalize", [](Image& i, const json&) { equalize(i.span()); }},
      {"Invert", [](Image& i, const json&) { invert(i.span()); }},
      {"Posterize", [=](Image& i, const json& c) { posterize(i.span(), whole(c, "bits")); }},
      {"Solarize", [=](Image& i, const json& c) { solarize(i.span(), whole(c, "threshold")); }},
      {"SolarizeAdd", [=](Image& i, const json& c) { solarize_add(i.span(), whole(c, "add")); }},
      {"Color", [=](Image& i, const json& c) { adjust_saturation(i.span(), real(c, "factor")); }},
      {"Contrast", [=](Image& i, const json& c) { adjust_contrast(i.span(), real(c, "factor")); }},
      {"Grayscale", [](Image& i, const json&) { adjust_saturation(i.span(), 0); }},
      {"ColorJitter",
       [](Image& i, const json& c) {
         const auto order = c.at("order").get<std::array<int, 3>>();
         sg::check(std::ranges::is_permutation(order, std::array{0, 1, 2}),
                   "ColorJitter: expected an order of 0, 1, 2, found {}", fmt::join(order, ", "));
         color_jitter(i.span(), {c.at("factors").get<std::array<double, 3>>(), order});
       }},
      {"Brightness",
       [=](Image& i, const json& c) { adjust_brightness(i.span(), real(c, "factor")); }},
      {"Sharpness",
       [=](Image& i, const json& c) {
         std::vector<uint8_t> scratch;
         adjust_sharpness(i.span(), real(c, "factor"), scratch);
       }},
      {"Rotate",
       [=](Image& i, const json& c) {
         warp(i, rotation(real(c, "degrees"), i.height, i.width), c);
       }},
      {"ShearX", [=](Image& i, const json& c) { warp(i, shear_x(real(c, "factor")), c); }},
      {"ShearY", [=](Image& i, const json& c) { warp(i, shear_y(real(c, "factor")), c); }},
      {"TranslateXRel",
       [=](Image& i, const json& c) { warp(i, translation(real(c, "fraction") * i.width, 0), c); }},
      {"TranslateYRel",
       [=](Image& i, const json& c) {
         warp(i, translation(0, real(c, "fraction") * i.height), c);
       }},
      {"TranslateX",
       [=](Image& i, const json& c) { warp(i, translation(real(c, "pixels"), 0), c); }},
      {"TranslateY",
       [=](Image& i, const json& c) { warp(i, translation(0, real(c, "pixels")), c); }},
      {"Resize",
       [=](Image& i, const json& c) {
         resize(i, i.view(), Resize::whole(whole(c, "height"), whole(c, "width"), filter_of(c)));
       }},
      {"CropResize",
       [=](Image& i, const json& c) {
         const Box box{whole(c, "left"), whole(c, "top"), whole(c, "width"), whole(c, "height")};
         sg::check(box.left >= 0 && box.top >= 0 && box.width > 0 && box.height > 0 &&
                       box.right() <= i.width && box.bottom() <= i.height,
                   "CropResize: the box leaves the image of {} x {}", i.height, i.width);
         resize(i, i.view().crop(box),
                Resize::whole(whole(c, "out_height"), whole(c, "out_width"), filter_of(c)));
       }},
  };
  return all;
}

// Null where it is unknown. PosterizeOriginal and ColorIncreasing are Posterize and Color: how an
// argument follows from a level is not checked here.
const Operation* find_operation(std::string_view name) {
  for (const std::string_view variant : {"Increasing", "Original"})
    if (name.ends_with(variant)) name.remove_suffix(variant.size());
  const auto found = operations().find(std::string(name));
  return found == operations().end() ? nullptr : &found->second;
}

Image image_of(const Safetensors& file, const std::string& name) {
  const Shape shape = file.shape(name);
  check(file.dtype(name) == Dtype::u8 && shape.size() == 3 && shape[2] == 3 && shape.numel() > 0,
        "{}: '{}': expected a u8 image (H, W, 3), found {} {}", file.path().string(), name,
        sg::name_of(file.dtype(name)), shape.str());
  Image image;
  image.height = int(shape[0]), image.width = int(shape[1]);
  image.pixels = to_vector<uint8_t>(file.tensor(name));
  return image;
}

void compare(const std::string& what, const Image& found, const Image& expected,
             ImageCheck& result) {
  if (found.height != expected.height || found.width != expected.width) {
    result.wrong.push_back(fmt::format("{}: {} x {} instead of {} x {}", what, found.height,
                                       found.width, expected.height, expected.width));
    return;
  }
  size_t first = 0, different = 0;
  for (size_t i = 0; i < expected.pixels.size(); ++i) {
    if (found.pixels[i] == expected.pixels[i]) continue;
    if (++different == 1) first = i;
  }
  if (different == 0) {
    ++result.equal;
    return;
  }
  const size_t row = size_t(expected.width) * 3;
  result.wrong.push_back(fmt::format(
      "{}: {} of {} bytes differ, first row {}, column {}, channel {}: {} instead of {}", what,
      different, expected.pixels.size(), first / row, first % row / 3, first % 3,
      found.pixels[first], expected.pixels[first]));
}

ImageCheck check_augment(const Safetensors& file) {
  ImageCheck result{.kind = "augment"};
  for (const auto& [name, text] : file.metadata()) {
    if (!file.contains(name)) continue;
    const std::string place = fmt::format("{}: metadata '{}'", file.path().string(), name);
    const json c = parse_json(text, place, ExitCode::checkpoint);
    try {
      const auto op = c.at("op").get<std::string>();
      const std::string what = fmt::format("{} ({})", name, op);
      const Operation* known = find_operation(op);
      if (!known) {
        result.not_checked.push_back(what);
        continue;
      }
      Image image = image_of(file, fmt::format("input.{}", c.at("input").get<int>()));
      (*known)(image, c);
      compare(what, image, image_of(file, name), result);
    } catch (const json::exception& e) {
      fail(ExitCode::checkpoint, "{}: {}", place, e.what());
    }
  }
  return result;
}

ImageCheck check_eval_chain(const Safetensors& file) {
  ImageCheck result{.kind = "eval_chain"};
  const auto number = [&](const char* name) {
    const json j = parse_json(file.metadata().at(name), file.path().string(), ExitCode::checkpoint);
    check(j.is_number(), "{}: metadata '{}': expected a number, found {}", file.path().string(),
          name, j.dump());
    return j.get<double>();
  };
  data::TransformConfig config;
  config.crop_pct = number("crop_pct");
  config.img_size = int(number("size"));
  config.eval_filter = filter_of(file.metadata().at("filter"));
  for (const std::string& name : file.names())
    compare(name, data::load_eval_image((file.path().parent_path() / name).string(), config),
            image_of(file, name), result);
  return result;
}

}  // namespace

bool is_golden_images(const std::filesystem::path& path) {
  if (path.extension() != ".safetensors") return false;
  const Safetensors file = Safetensors::open(path);
  return is_augment(file) || is_eval_chain(file);
}

ImageCheck check_golden_images(const std::filesystem::path& path) {
  const Safetensors file = Safetensors::open(path);
  if (is_augment(file)) return check_augment(file);
  check(is_eval_chain(file), "{}: neither metadata of augmentation nor of an evaluation chain",
        path.string());
  return check_eval_chain(file);
}

}  // namespace sg::tools
