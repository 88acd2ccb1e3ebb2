#include "data/transforms.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "io/safetensors.h"
#include "tests/data/images.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;

TEST_CASE("golden: the evaluation chain from JPEG to pixels, byte for byte") {
  const std::filesystem::path root = test::shared("golden/eval_chain");
  if (root.empty()) return;
  const auto file = Safetensors::open(root / "expected.safetensors");
  TransformConfig config;
  config.crop_pct = std::stod(file.metadata().at("crop_pct"));
  config.img_size = std::stoi(file.metadata().at("size"));
  config.eval_filter =
      file.metadata().at("filter") == "bicubic" ? Filter::bicubic : Filter::bilinear;
  for (const auto& name : file.names()) {
    INFO(name);
    CHECK(load_eval_image((root / name).string(), config).pixels ==
          to_vector<uint8_t>(file.tensor(name)));
  }
  CHECK(file.names().size() >= 4);
}

TEST_CASE("evaluation: sizes truncate, offsets round half to even") {
  const auto of = [](int h, int w, TransformConfig c = {}) { return eval_resize(h, w, c); };
  CHECK(of(375, 500).height == 248);
  CHECK(of(375, 500).width == 330);  // 330.67
  CHECK(of(500, 375).height == 330);
  CHECK(of(375, 500).window == Box{53, 12, 224, 224});
  // Halves: (249 - 224) / 2 = 12.5 and (251 - 224) / 2 = 13.5.
  CHECK(of(1000, 1006).width == 249);
  CHECK(of(1000, 1006).window.left == 12);
  CHECK(of(1000, 1013).width == 251);
  CHECK(of(1000, 1013).window.left == 14);
  CHECK(of(248, 248).window == Box{12, 12, 224, 224});
  TransformConfig big;
  big.img_size = 384, big.crop_pct = 1.0;
  CHECK(of(500, 500, big).width == 384);
  CHECK(of(500, 500, big).window == Box{0, 0, 384, 384});
  TransformConfig imagenet_default;
  imagenet_default.crop_pct = 0.875;
  CHECK(of(300, 300, imagenet_default).height == 256);
}

TEST_CASE("evaluation at a size that is no square covers it, sides rounded, as timm's does") {
  TransformConfig c;
  c.img_size = {320, 256}, c.crop_pct = 1;
  // The image covers 320 x 256: min(500 / 320, 375 / 256) = 1.4648.
  CHECK(eval_resize(500, 375, c).height == 341);  // 341.33
  CHECK(eval_resize(500, 375, c).width == 256);
  CHECK(eval_resize(500, 375, c).window == Box{0, 10, 256, 320});  // 10.5 to even
  CHECK(eval_resize(375, 500, c).height == 320);
  CHECK(eval_resize(375, 500, c).width == 427);                    // 426.67
  CHECK(eval_resize(375, 500, c).window == Box{86, 0, 256, 320});  // 85.5 to even
  c.crop_pct = 0.9;                                                // covers 355 x 284
  CHECK(eval_resize(320, 256, c).height == 355);
  CHECK(eval_resize(320, 256, c).window.height == 320);
}

TEST_CASE("training at a size that is no square: rows and columns are not exchanged") {
  const Image image = test::scene(90, 121);
  TransformConfig config;
  config.img_size = {20, 48}, config.hflip = 0, config.interpolation = Interpolation::bicubic;
  std::vector<uint8_t> out(20 * 48 * 3), expected(out.size());
  Transform(config).train(*open_pixels(image.pixels.data(), 90, 121, 3), 7, 1, 3, out.data());
  Random random(7, Purpose::crop, 1, 3);
  const Box box = random_resized_crop(90, 121, config, random);
  Resizer()(image.view().crop(box), Resize::whole(20, 48, Filter::bicubic), expected.data());
  CHECK(out == expected);
}

TEST_CASE("evaluation of a strip a million pixels long takes a window's time") {
  const auto evaluated = [](const uint8_t* pixels, int length) {
    Image out;
    out.reset(224, 224);
    Transform({}).eval(*open_pixels(pixels, 1, length, 3), out.pixels.data());
    return out.pixels;
  };
  const int length = 1'000'000, middle = 20;
  const Image strip = test::noise(1, length);
  const auto start = std::chrono::steady_clock::now();
  const auto found = evaluated(strip.pixels.data(), length);
  // All of it would be 248 million columns wide.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(1));
  CHECK(found == evaluated(strip.pixels.data() + (length - middle) / 2 * 3, middle));
}

TEST_CASE("crops have the areas and ratios of the recipe, and lie inside") {
  const TransformConfig config;
  Random random(3, Purpose::test);
  const int h = 400, w = 500, n = 20000;
  double area = 0, log_ratio = 0;
  int lowest = h, rightmost = 0;
  for (int i = 0; i < n; ++i) {
    const Box b = random_resized_crop(h, w, config, random);
    REQUIRE((b.left >= 0 && b.top >= 0 && b.right() <= w && b.bottom() <= h));
    const double share = double(b.width) * b.height / (h * w), ratio = double(b.width) / b.height;
    CHECK(share > 0.075);
    CHECK(ratio > 0.74);
    CHECK(ratio < 1.35);
    area += share, log_ratio += std::log(ratio);
    lowest = std::min(lowest, b.top), rightmost = std::max(rightmost, b.right());
  }
  // The same rule simulated with NumPy, 10^7 draws: mean share 0.45340 (deviation 0.227), mean log
  // ratio 0.02806 (deviation 0.163). Five standard errors of n draws.
  CHECK(std::abs(area / n - 0.45340) < 5 * 0.227 / std::sqrt(n));
  CHECK(std::abs(log_ratio / n - 0.02806) < 5 * 0.163 / std::sqrt(n));
  CHECK(lowest == 0);
  CHECK(rightmost == w);
}

TEST_CASE("an image that no crop fits gets the central one of the nearest ratio") {
  const TransformConfig config;
  Random random(3, Purpose::test);
  for (int i = 0; i < 20; ++i) {
    // 10 x 1000: an area of at least 0.08 never fits.
    CHECK(random_resized_crop(1000, 10, config, random) == Box{0, 493, 10, 13});
    CHECK(random_resized_crop(10, 1000, config, random) == Box{493, 0, 13, 10});
  }
  for (const auto& [h, w] : {std::pair{1, 1}, {1, 2}, {2, 1}, {1, 60000}, {3, 2}})
    for (int i = 0; i < 100; ++i) {
      const Box b = random_resized_crop(h, w, config, random);
      CHECK((b.width >= 1 && b.height >= 1 && b.right() <= w && b.bottom() <= h));
    }
}

TEST_CASE("a sample is a function of seed, epoch and index; flips and filters are even") {
  const Image image = test::scene(60, 60);
  TransformConfig config;
  config.img_size = 32;
  const auto make = [&](TransformConfig c, uint64_t seed, int64_t epoch, int64_t index) {
    std::vector<uint8_t> out(32 * 32 * 3);
    Transform(c).train(*open_pixels(image.pixels.data(), 60, 60, 3), seed, epoch, index,
                       out.data());
    return out;
  };
  const auto first = make(config, 1, 2, 3);
  CHECK(make(config, 1, 2, 3) == first);
  CHECK(make(config, 2, 2, 3) != first);
  CHECK(make(config, 1, 3, 3) != first);
  CHECK(make(config, 1, 2, 4) != first);

  TransformConfig plain = config;
  plain.hflip = 0;
  std::map<Interpolation, int> filters;
  int flipped = 0;
  const int n = 400;
  for (int i = 0; i < n; ++i) {
    TransformConfig linear = plain, cubic = plain;
    linear.interpolation = Interpolation::bilinear, cubic.interpolation = Interpolation::bicubic;
    const auto any = make(plain, 1, 0, i);
    filters[any == make(cubic, 1, 0, i) ? Interpolation::bicubic : Interpolation::bilinear]++;
    if (any != make(cubic, 1, 0, i)) CHECK(any == make(linear, 1, 0, i));
    flipped += make(config, 1, 0, i) != any;
  }
  // Five standard deviations of a fair coin: 5 * sqrt(400) / 2 = 50.
  CHECK(std::abs(filters[Interpolation::bicubic] - n / 2) < 50);
  CHECK(std::abs(flipped - n / 2) < 50);
}

TEST_CASE("after crop and flip come RandAugment, or else ColorJitter; or nothing at all") {
  const Image image = test::scene(60, 80);
  TransformConfig plain;
  plain.img_size = 32;
  const auto make = [&](const TransformConfig& c, int64_t index, bool training = true) {
    Image out;
    out.reset(32, 32);
    const auto source = open_pixels(image.pixels.data(), 60, 80, 3);
    if (training)
      Transform(c).train(*source, 1, 2, index, out.pixels.data());
    else
      Transform(c).eval(*source, out.pixels.data());
    return out;
  };
  TransformConfig augmented = plain, jittered = plain, both = plain, upside_down = plain;
  augmented.rand_augment = both.rand_augment = parse_rand_augment("rand-m9-mstd0.5-inc1");
  jittered.color_jitter = both.color_jitter = 0.4;
  upside_down.vflip = 1;
  int augmented_images = 0;
  for (int i = 0; i < 40; ++i) {
    const Image before = make(plain, i);
    Image after = before;
    Random augment(1, Purpose::augment, 2, uint64_t(i));
    RandAugment{*augmented.rand_augment}(after.span(), augment);
    CHECK(make(augmented, i).pixels == after.pixels);
    CHECK(make(both, i).pixels == after.pixels);
    augmented_images += after.pixels != before.pixels;

    after = before;
    Random jitter(1, Purpose::color_jitter, 2, uint64_t(i));
    color_jitter(after.span(), draw_color_jitter(0.4, jitter));
    CHECK(make(jittered, i).pixels == after.pixels);

    const Image turned = make(upside_down, i);
    for (int y = 0; y < 32; ++y)
      CHECK(std::equal(turned.row(y), turned.row(y) + 96, before.row(31 - y)));
  }
  CHECK(augmented_images > 20);

  // As timm does it, whose Resize gets both sides: the whole image, whatever its shape.
  TransformConfig no_aug = both;
  no_aug.no_aug = true, no_aug.vflip = 1, no_aug.grayscale_prob = 1;
  const auto squeezed = [&](Filter filter) {
    std::vector<uint8_t> out(32 * 32 * 3);
    Resizer()(image.view(), Resize::whole(32, 32, filter), out.data());
    return out;
  };
  CHECK(make(no_aug, 0).pixels == squeezed(Filter::bilinear));
  CHECK(make(no_aug, 1).pixels == squeezed(Filter::bilinear));
  no_aug.interpolation = Interpolation::bicubic;
  CHECK(make(no_aug, 0).pixels == squeezed(Filter::bicubic));
}

TEST_CASE("color jitter and grey come with their probabilities, grey after RandAugment too") {
  const Image image = test::scene(40, 40);
  TransformConfig plain;
  plain.img_size = 24;
  const auto make = [&](const TransformConfig& c, int64_t index) {
    std::vector<uint8_t> out(24 * 24 * 3);
    Transform(c).train(*open_pixels(image.pixels.data(), 40, 40, 3), 1, 2, index, out.data());
    return out;
  };
  const auto is_grey = [](const std::vector<uint8_t>& pixels) {
    for (size_t i = 0; i < pixels.size(); i += 3)
      if (pixels[i] != pixels[i + 1] || pixels[i] != pixels[i + 2]) return false;
    return true;
  };
  TransformConfig jitter = plain, grey = plain, augmented = plain;
  jitter.color_jitter = 0.4, jitter.color_jitter_prob = 0.8;
  grey.grayscale_prob = 0.2;
  augmented.rand_augment = parse_rand_augment("rand-m9-mstd0.5-inc1"), augmented.grayscale_prob = 1;
  const int n = 400;
  int jittered = 0, greys = 0;
  for (int i = 0; i < n; ++i) {
    const auto before = make(plain, i);
    jittered += make(jitter, i) != before;
    greys += is_grey(make(grey, i));
    CHECK(is_grey(make(augmented, i)));
    CHECK(!is_grey(before));
  }
  // Five standard deviations of a share of 0.8, and of 0.2.
  CHECK(std::abs(jittered - 0.8 * n) < 5 * std::sqrt(n * 0.16));
  CHECK(std::abs(greys - 0.2 * n) < 5 * std::sqrt(n * 0.16));
}

TEST_CASE("training pixels are crop, resize, mirror of the whole decoded image") {
  const Image image = test::scene(90, 121);
  const auto bytes = test::jpeg(image);
  const Image all = decode(bytes, "a");
  TransformConfig config;
  config.img_size = 48, config.hflip = 1, config.interpolation = Interpolation::bicubic;
  Resizer resizer;
  for (int i = 0; i < 50; ++i) {
    std::vector<uint8_t> out(48 * 48 * 3), expected(out.size());
    Transform(config).train(*open_image(bytes, "a"), 7, 1, i, out.data());
    Random random(7, Purpose::crop, 1, uint64_t(i));
    const Box box = random_resized_crop(90, 121, config, random);
    resizer(all.view().crop(box), Resize::whole(48, 48, Filter::bicubic, true), expected.data());
    CHECK(out == expected);
  }
}

TEST_CASE("settings that make no sense are refused by name") {
  const auto refused = [](auto change) {
    TransformConfig config;
    change(config);
    return test::error_of(ExitCode::usage, [&] { Transform{config}; });
  };
  CHECK(test::contains(refused([](auto& c) { c.scale = {0.5, 0.1}; }), "scale"));
  CHECK(test::contains(refused([](auto& c) { c.ratio = {0, 1}; }), "ratio"));
  CHECK(test::contains(refused([](auto& c) { c.crop_pct = 1.5; }), "crop-pct"));
  CHECK(test::contains(refused([](auto& c) { c.hflip = NAN; }), "hflip"));
  CHECK(test::contains(refused([](auto& c) { c.img_size = 0; }), "img-size"));
  CHECK(test::contains(refused([](auto& c) { c.vflip = 2; }), "vflip"));
  CHECK(test::contains(refused([](auto& c) { c.color_jitter = -1; }), "color-jitter"));
  CHECK(test::contains(refused([](auto& c) { c.color_jitter_prob = 2; }), "color-jitter-prob"));
  CHECK(test::contains(refused([](auto& c) { c.grayscale_prob = -1; }), "grayscale-prob"));
  CHECK(test::contains(refused([](auto& c) { c.rand_augment.emplace().ops = 0; }), "aa: n"));
  test::error_of(ExitCode::usage, [] { parse_interpolation("nearest"); });
  CHECK(parse_interpolation("random") == Interpolation::random);
}
