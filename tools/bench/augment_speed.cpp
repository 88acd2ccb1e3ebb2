#include "tools/bench/augment_speed.h"

#include <cmath>
#include <cstring>

#include "core/error.h"
#include "data/transforms/rand_augment.h"
#include "tools/bench/cpu_time.h"
#include "tools/bench/median.h"

namespace sg::benchmark {
namespace {

data::Image waves_and_noise(int side) {
  Random random(0, Purpose::test);
  data::Image image;
  image.reset(side, side);
  for (int y = 0; y < side; ++y)
    for (int i = 0; i < side * 3; ++i)
      image.row(y)[i] = uint8_t(110 + 90 * std::sin(i / 3 * 0.11 + y * 0.07 * (i % 3 + 1)) +
                                double(random.u32() % 50));
  return image;
}

}  // namespace

std::vector<AugmentSpeed> benchmark_augment(int side, int repeats) {
  check(side > 0 && repeats > 0, "benchmark: {} repeats of {} pixels a side", repeats, side);
  using enum data::AugmentOp;
  struct Case {
    const char* name;
    data::AugmentOp op;
    double value;
    bool geometric = false;
  };
  const Case cases[] = {{"AutoContrast", autocontrast, 0},
                        {"Equalize", equalize, 0},
                        {"Invert", invert, 0},
                        {"Rotate", rotate, 27, true},
                        {"Posterize", posterize, 1},
                        {"Solarize", solarize, 26},
                        {"SolarizeAdd", solarize_add, 99},
                        {"Color", color, 1.81},
                        {"Contrast", contrast, 1.81},
                        {"Brightness", brightness, 1.81},
                        {"Sharpness", sharpness, 1.81},
                        {"ShearX", shear_x, 0.27, true},
                        {"ShearY", shear_y, 0.27, true},
                        {"TranslateXRel", translate_x, 0.405, true},
                        {"TranslateYRel", translate_y, 0.405, true}};
  const data::Image original = waves_and_noise(side);
  data::Image image = original;
  data::RandAugment augment(data::parse_rand_augment("rand-m9-mstd0.5-inc1"));
  std::vector<double> times;
  const auto seconds = [&](auto&& f) {
    std::memcpy(image.pixels.data(), original.pixels.data(), original.pixels.size());
    const double begin = thread_cpu_seconds();
    f();
    return thread_cpu_seconds() - begin;
  };
  std::vector<AugmentSpeed> rows;
  for (const Case& c : cases)
    for (const auto filter : {data::Filter::bilinear, data::Filter::bicubic}) {
      if (!c.geometric && filter == data::Filter::bicubic) continue;
      times.clear();
      for (int i = 0; i < repeats; ++i)
        times.push_back(seconds([&] {
          augment.apply({c.op, true, c.value, filter}, image.span());
        }));
      const char* suffix = !c.geometric                       ? ""
                           : filter == data::Filter::bilinear ? " bilinear"
                                                              : " bicubic";
      rows.push_back({std::string(c.name) + suffix, median(times)});
    }
  double sum = 0;
  const int images = 20 * repeats;
  for (int i = 0; i < images; ++i) {
    Random random(0, Purpose::augment, 0, uint64_t(i));
    sum += seconds([&] { augment(image.span(), random); });
  }
  rows.push_back({"rand-m9-mstd0.5-inc1", sum / images});
  return rows;
}

}  // namespace sg::benchmark
