#include "data/transforms/rand_augment.h"

#include <cmath>
#include <map>
#include <set>

#include "data/labelled_images.h"
#include "data/loader.h"
#include "data/transforms/image_ops.h"
#include "io/file.h"
#include "io/json.h"
#include "tests/data/images.h"
#include "tests/support/bars_dataset.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;
using Op = AugmentOp;

namespace {

constexpr const char* kPublished = "rand-m9-mstd0.5-inc1";

// Draws of n images.
std::vector<std::vector<AugmentStep>> draws(const char* policy, int n) {
  RandAugment augment(parse_rand_augment(policy));
  std::vector<std::vector<AugmentStep>> all;
  for (int i = 0; i < n; ++i) {
    Random random(1, Purpose::augment, 0, uint64_t(i));
    const auto steps = augment.draw(random);
    all.emplace_back(steps.begin(), steps.end());
  }
  return all;
}

// Values of one operation, where it is applied.
std::vector<double> values(const std::vector<std::vector<AugmentStep>>& all, AugmentOp op) {
  std::vector<double> found;
  for (const auto& steps : all)
    for (const AugmentStep& s : steps)
      if (s.applied && s.op == op) found.push_back(s.value);
  return found;
}

// Whether a share of n fits its probability, within five standard errors.
void check_share(double count, double n, double probability) {
  CHECK(std::abs(count / n - probability) < 5 * std::sqrt(probability * (1 - probability) / n));
}

}  // namespace

TEST_CASE("the published policy: what is drawn, and how often") {
  const int n = 40000;
  const auto all = draws(kPublished, n);
  int untouched = 0, twice = 0, applied = 0;
  std::map<AugmentOp, int> drawn, cubic, geometric;
  for (const auto& steps : all) {
    REQUIRE(steps.size() == 2);
    untouched += !steps[0].applied && !steps[1].applied;
    twice += steps[0].op == steps[1].op;
    for (const AugmentStep& s : steps) {
      ++drawn[s.op], applied += s.applied;
      if (s.applied) ++geometric[s.op], cubic[s.op] += s.filter == Filter::bicubic;
    }
  }
  check_share(untouched, n, 0.25);
  check_share(twice, n, 1.0 / 15);
  check_share(applied, 2 * n, 0.5);
  CHECK(drawn.size() == 15);
  for (const auto& [op, count] : drawn) check_share(count, 2 * n, 1.0 / 15);
  for (const auto op : {Op::rotate, Op::shear_x, Op::shear_y, Op::translate_x, Op::translate_y})
    check_share(cubic[op], geometric[op], 0.5);
  for (const auto op : {Op::invert, Op::posterize, Op::color, Op::sharpness}) CHECK(cubic[op] == 0);
}

TEST_CASE("the published policy: levels are normal around 9, clipped at 10; signs are even") {
  const auto all = draws(kPublished, 40000);
  // The clip at two deviations holds 1 - Phi(2) = 0.02275 of the draws. It takes
  // 0.5 (phi(2) - 2 0.02275) = 0.0042 off the mean, and off the mean square, which would be 0.25,
  // 0.25 (2 phi(2) + 0.02275 - 4 0.02275) = 0.0099.
  for (const auto& [op, unit] :
       {std::pair{Op::rotate, 3.0}, {Op::shear_x, 0.03}, {Op::translate_y, 0.045}}) {
    const auto found = values(all, op);
    const double n = double(found.size());
    double sum = 0, square = 0, positive = 0, highest = 0;
    for (const double v : found) {
      const double level = std::abs(v) / unit;
      CHECK(level < 10 + 1e-9);
      sum += level, square += (level - 9) * (level - 9), positive += v > 0;
      highest += level > 10 - 1e-9;
    }
    CHECK(std::abs(sum / n - (9 - 0.0042)) < 5 * 0.5 / std::sqrt(n));
    // The variance of a squared normal is twice its mean's square.
    CHECK(std::abs(square / n - (0.25 - 0.0099)) < 5 * 0.25 * std::sqrt(2 / n));
    check_share(positive, n, 0.5);
    check_share(highest, n, 0.02275);
  }
  // Bits: 2 below level 7.5 (three deviations: 0.00135), 0 at 10, else 1.
  std::map<double, int> bits;
  for (const double v : values(all, Op::posterize)) ++bits[v];
  const double n = bits[0] + bits[1] + bits[2];
  check_share(bits[0], n, 0.02275);
  check_share(bits[2], n, 0.00135);
  for (const double v : values(all, Op::color)) CHECK(std::abs(std::abs(v - 1) - 0.81) < 0.27);
}

TEST_CASE("arguments of both sets at levels up to 30 are timm's") {
  const nlohmann::json timm =
      parse_json(read_file(std::string(SG_TEST_DATA_DIR) + "/timm/levels.json"), "levels.json",
                 ExitCode::failure);
  const std::map<std::string, Op> ops{
      {"Rotate", Op::rotate},
      {"Posterize", Op::posterize},
      {"Solarize", Op::solarize},
      {"SolarizeAdd", Op::solarize_add},
      {"Color", Op::color},
      {"Contrast", Op::contrast},
      {"Brightness", Op::brightness},
      {"Sharpness", Op::sharpness},
      {"ShearX", Op::shear_x},
      {"ShearY", Op::shear_y},
      {"TranslateXRel", Op::translate_x},
      {"TranslateYRel", Op::translate_y},
      {"PosterizeIncreasing", Op::posterize},
      {"SolarizeIncreasing", Op::solarize},
      {"ColorIncreasing", Op::color},
      {"ContrastIncreasing", Op::contrast},
      {"BrightnessIncreasing", Op::brightness},
      {"SharpnessIncreasing", Op::sharpness},
  };
  const auto levels = timm.at("levels").get<std::vector<double>>();
  for (const char* set : {"plain", "increasing"})
    for (size_t i = 0; i < levels.size(); ++i) {
      const auto all = draws(fmt::format("rand-m{}-mmax100-p1{}", levels[i],
                                         set == std::string("plain") ? "" : "-inc1")
                                 .c_str(),
                             400);
      for (const auto& [name, signs] : timm.at(set).items()) {
        CAPTURE(name);
        CAPTURE(levels[i]);
        std::set<double> expected, found;
        for (const auto& sign : signs) {
          const auto value = sign[i].get<double>();
          expected.insert(ops.at(name) == Op::posterize ? std::max(value, 0.0) : value);  // black
        }
        for (const double v : values(all, ops.at(name))) found.insert(v);
        CHECK(found == expected);
      }
    }
}

TEST_CASE("arguments at level 9, of both sets") {
  struct Expected {
    AugmentOp op;
    double plain, increasing;
  };
  const auto plain = draws("rand-m9", 4000), increasing = draws("rand-m9-inc1", 4000);
  for (const auto& [op, a, b] :
       {Expected{Op::posterize, 3, 1}, {Op::solarize, 230, 26}, {Op::solarize_add, 99, 99}}) {
    for (const double v : values(plain, op)) CHECK(v == a);
    for (const double v : values(increasing, op)) CHECK(v == b);
  }
  for (const auto op : {Op::color, Op::contrast, Op::brightness, Op::sharpness}) {
    for (const double v : values(plain, op)) CHECK(v == doctest::Approx(1.72));
    for (const double v : values(increasing, op)) CHECK(std::abs(v - 1) == doctest::Approx(0.81));
  }
  for (const auto& all : {plain, increasing})
    for (const auto& [op, size] :
         {std::pair{Op::rotate, 27.0}, {Op::shear_y, 0.27}, {Op::translate_x, 0.405}})
      for (const double v : values(all, op)) CHECK(std::abs(v) == doctest::Approx(size));
  CHECK(values(plain, Op::posterize).size() > 100);
}

TEST_CASE("posterize at level 9 of the increasing set keeps one bit") {
  const RandAugmentConfig config = parse_rand_augment("rand-m9-n1-p1-inc1");
  RandAugment augment(config);
  int seen = 0;
  for (int i = 0; i < 200; ++i) {
    Random random(3, Purpose::test, 0, uint64_t(i));
    const AugmentStep step = augment.draw(random)[0];
    if (step.op != Op::posterize) continue;
    Image image = test::scene(10, 10);
    augment.apply(step, image.span());
    for (const uint8_t v : image.pixels) CHECK((v == 0 || v == 128));
    ++seen;
  }
  CHECK(seen > 0);
}

TEST_CASE("n, p, uniform levels, higher levels and weights") {
  for (const auto& steps : draws("rand-n5-p1", 50)) {
    CHECK(steps.size() == 5);
    for (const AugmentStep& s : steps) CHECK(s.applied);
  }
  for (const auto& steps : draws("rand-p0", 50))
    for (const AugmentStep& s : steps) CHECK(!s.applied);

  const auto uniform = values(draws("rand-m6-mstd101-p1", 20000), Op::rotate);
  double sum = 0;
  for (const double v : uniform) {
    CHECK(std::abs(v) <= 18);
    sum += std::abs(v) / 3;
  }
  const double count = double(uniform.size());
  CHECK(std::abs(sum / count - 3) < 5 * 6 / std::sqrt(12 * count));

  for (const double v : values(draws("rand-m20-p1", 1000), Op::rotate))
    CHECK(std::abs(v) == doctest::Approx(30));
  for (const double v : values(draws("rand-m20-mmax15-p1", 1000), Op::rotate))
    CHECK(std::abs(v) == doctest::Approx(45));

  const int n = 20000;
  int rotated = 0;
  for (const auto& steps : draws("rand-m9-w0", n)) {
    REQUIRE(steps.size() == 2);
    CHECK(steps[0].op != steps[1].op);
    for (const AugmentStep& s : steps) CHECK((s.op != Op::invert && s.op != Op::posterize));
    rotated += steps[0].op == Op::rotate;
  }
  check_share(rotated, n, 0.3);
  for (const auto& steps : draws("rand-w0-n13", 20)) CHECK(steps.size() == 13);

  // timm's weights 3, .25 and .05 of 10.1; the second operation is another than the first.
  std::map<AugmentOp, int> first;
  for (const auto& steps : draws("rand-m9-tweights-p1", n)) {
    ++first[steps[0].op];
    CHECK(steps[0].op != steps[1].op);
    for (const AugmentStep& s : steps)
      if (s.op == Op::posterize) CHECK(s.value == 1);  // of the increasing set
  }
  for (const auto& [op, weight] :
       {std::pair{Op::rotate, 3.0}, {Op::color, .25}, {Op::invert, .05}, {Op::posterize, .05}})
    check_share(first[op], n, weight / 10.1);
  for (const auto& steps : draws("rand-tweights-n15", 20)) CHECK(steps.size() == 15);
}

TEST_CASE("each operation is applied in place with its argument, the fill and the filter") {
  RandAugmentConfig config;
  config.fill = {9, 8, 7}, config.filter = Filter::bicubic;
  RandAugment augment(config);
  const Image original = test::scene(20, 30);
  const auto applied = [&](AugmentOp op, double value) {
    Image image = original;
    augment.apply({op, true, value, Filter::bicubic}, image.span());
    return image;
  };
  const auto expected = [&](const AffineMatrix& m) {
    Image image = original;
    std::vector<uint8_t> scratch;
    affine(image.span(), m, Filter::bicubic, {9, 8, 7}, scratch);
    return image.pixels;
  };
  CHECK(applied(Op::rotate, 20).pixels == expected(rotation(20, 20, 30)));
  CHECK(applied(Op::shear_x, .2).pixels == expected(data::shear_x(.2)));
  CHECK(applied(Op::shear_y, .2).pixels == expected(data::shear_y(.2)));
  CHECK(applied(Op::translate_x, .4).pixels == expected(translation(12, 0)));
  CHECK(applied(Op::translate_y, .4).pixels == expected(translation(0, 8)));
  Image inverted = original;
  data::invert(inverted.span());
  CHECK(applied(Op::invert, 0).pixels == inverted.pixels);
  for (int op = 0; op < kAugmentOps; ++op)
    CHECK(applied(AugmentOp(op), op < 3 ? 0 : 1.5).pixels != original.pixels);
  for (int i = 0; i < 500; ++i) {
    Random random(1, Purpose::test, uint64_t(i));
    for (const AugmentStep& s : augment.draw(random))
      if (s.applied && (s.op == Op::rotate || s.op >= Op::shear_x))
        CHECK(s.filter == Filter::bicubic);
  }
}

TEST_CASE("an augmented batch is the same for any number of workers, and in a resumed epoch") {
  // The pixels of epoch 1, or what is left of it from a batch on.
  const auto run = [](int workers, uint64_t seed, int64_t first_batch = 0) {
    LoaderConfig config;
    config.batch_size = 16, config.workers = workers, config.seed = seed;
    const TransformConfig transform{.img_size = 20, .rand_augment = parse_rand_augment(kPublished)};
    Loader loader(std::make_shared<LabelledImages>(std::make_shared<test::Bars>(64), transform),
                  config);
    std::vector<uint8_t> bytes;
    loader.start_epoch(1, first_batch);
    for (Batch batch; loader.next(batch);) {
      const auto images = to_vector<uint8_t>(batch.tensors[LabelledImages::kImages]);
      bytes.insert(bytes.end(), images.begin(), images.end());
    }
    return bytes;
  };
  const auto one = run(0, 1);
  CHECK(one.size() == 64 * 20 * 20 * 3);
  for (const int workers : {1, 3}) CHECK(run(workers, 1) == one);
  CHECK(run(0, 2) != one);
  CHECK(run(1, 1, 2) == std::vector(one.begin() + 32 * 20 * 20 * 3, one.end()));
}

TEST_CASE("policies: timm's grammar") {
  CHECK(parse_rand_augment("rand") == RandAugmentConfig{});
  const RandAugmentConfig c = parse_rand_augment("rand-inc1-n3-p0.25-mmax12-mstd0.5-m9");
  CHECK(c == RandAugmentConfig{.ops = 3,
                               .magnitude = 9,
                               .magnitude_std = 0.5,
                               .magnitude_max = 12,
                               .probability = 0.25,
                               .increasing = true});
  CHECK(parse_rand_augment("rand-inc0").increasing);  // as in timm
  CHECK(parse_rand_augment("rand-w0").weights == AugmentWeights::w0);
  CHECK(parse_rand_augment("rand-tweights-m5") ==
        RandAugmentConfig{.magnitude = 5, .increasing = true, .weights = AugmentWeights::tweights});
  CHECK(parse_rand_augment("rand-mmax0").magnitude_max == 10);  // as in timm
  CHECK(parse_rand_augment("rand-mstd100").magnitude_std == 100);
  CHECK(std::isinf(parse_rand_augment("rand-mstd101").magnitude_std));
  const auto refused = [](std::string_view policy) {
    return test::error_of(ExitCode::usage, [&] { parse_rand_augment(policy); });
  };
  for (const char* other : {"original-mstd0.5", "v0", "augmix-m5-w4-d2", "3a", "random", ""})
    CHECK(test::contains(refused(other), "only RandAugment is built in"));
  CHECK(test::contains(refused("augmix-m5"), "as in rand-m9-mstd0.5-inc1"));
  CHECK(test::contains(refused("rand-m9-x3"), "section 'x3' is unknown"));
  for (const char* set : {"rand-t3a", "rand-m9-t3aw", "rand-t", "rand-tweight"})
    CHECK(test::contains(refused(set), "of timm's sets only tweights is built in"));
  CHECK(test::contains(refused("rand-tweights-n16"), "n: expected 1 to 15, found 16"));
  CHECK(test::contains(refused("rand-w1"), "section 'w1' is unknown"));
  CHECK(test::contains(refused("rand-m"), "section 'm': expected letters and a number"));
  CHECK(test::contains(refused("rand-m9-"), "section ''"));
  CHECK(test::contains(refused("rand-m9x"), "section 'm9x'"));
  CHECK(test::contains(refused("rand-n1.5"), "whole number"));
  CHECK(test::contains(refused("rand-n0"), "n: expected 1 to 100, found 0"));
  CHECK(test::contains(refused("rand-n14-w0"), "n: expected 1 to 13, found 14"));
  CHECK(test::contains(refused("rand-p1.5"), "p: expected a probability"));
  CHECK(test::contains(refused("rand-m1000"), "m: expected 0 to 100"));
}
