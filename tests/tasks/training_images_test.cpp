#include "tasks/training_images.h"

#include <doctest/doctest.h>

#include "data/decode.h"
#include "data/side_by_side.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr int kSide = 8;
const ChannelStats kStats;

// Image i is grey, of 60 i + 30.
Tensor grey(int64_t batch) {
  Tensor images = empty({batch, kSide, kSide, 3}, Dtype::u8);
  for (int64_t i = 0; i < images.numel(); ++i)
    images.data<uint8_t>()[i] = uint8_t(60 * (i / (3 * kSide * kSide)) + 30);
  return images;
}

data::Image decoded(const std::string& png) {
  return data::decode({reinterpret_cast<const uint8_t*>(png.data()), png.size()}, "png");
}

}  // namespace

TEST_CASE("training images: before and after, with their targets in words") {
  std::vector<MixErase> changes(4);
  mixup(std::span(changes).first(2), 0, 0.7, kSide, kSide);
  cutmix(std::span(changes).last(2), 2, {0, 0, 4, kSide}, kSide, kSide);
  changes[0].erased[0] = {5, 5, 2, 2}, changes[0].erase_mode = EraseMode::constant;
  changes[3] = {};
  const Tensor labels = from_vector<int32_t>({0, 1, 1, 2}, {4});
  const Gallery g = tasks::training_images({grey(4), labels, pack(changes, kSide, kSide)}, kStats,
                                           {"n01", "dog"}, {{"n01", "cat"}});
  REQUIRE(g.items.size() == 4);
  CHECK(g.wide);
  CHECK(g.items[0].headline == "0.70 cat (n01) + 0.30 dog");
  CHECK(g.items[0].note == "mixup, erased");
  CHECK(g.items[1].headline == "0.70 dog + 0.30 cat (n01)");
  CHECK(g.items[1].note == "mixup");
  CHECK(g.items[2].headline == "0.50 dog + 0.50 class 2");
  CHECK(g.items[2].note == "CutMix");
  CHECK(g.items[3].headline == "class 2");
  CHECK(g.items[3].note == "unchanged");

  const data::Image mixed = decoded(g.items[0].png), cut = decoded(g.items[2].png);
  REQUIRE(mixed.height == kSide);
  REQUIRE(mixed.width == 2 * kSide + data::kSideBySideGap);
  const int after = kSide + data::kSideBySideGap;
  CHECK(mixed.row(1)[0] == 30);
  CHECK(mixed.row(1)[3 * after] == 48);  // 0.7 * 30 + 0.3 * 90
  // Zeros are the mean colour: 255 (0.485, 0.456, 0.406).
  CHECK(mixed.row(6)[3 * (after + 5)] == 124);
  CHECK(mixed.row(6)[3 * (after + 5) + 1] == 116);
  CHECK(mixed.row(6)[3 * (after + 5) + 2] == 104);
  CHECK(mixed.row(6)[3 * (after + 7)] == 48);
  CHECK(cut.row(1)[0] == 150);
  CHECK(cut.row(1)[3 * (after + 3)] == 210);
  CHECK(cut.row(1)[3 * (after + 4)] == 150);
}

TEST_CASE("training images: some of a large batch; without mixing, as they are") {
  std::vector<int32_t> labels(40, 1);
  const Gallery g = tasks::training_images(
      {zeros({40, kSide, kSide, 3}, Dtype::u8), from_vector(labels, {40}), {}}, kStats,
      {"cat", "dog"}, {}, 5);
  REQUIRE(g.items.size() == 5);
  CHECK_FALSE(g.wide);
  CHECK(g.items[0].headline == "dog");
  CHECK(g.items[0].note == "");
  CHECK(decoded(g.items[0].png).width == kSide);
}
