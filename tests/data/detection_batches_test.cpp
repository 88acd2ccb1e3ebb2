#include "data/detection_batches.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>
#include <set>

#include "data/coco_folder.h"
#include "tests/support/coco_scenes.h"

using namespace sg;
using namespace sg::data;
using test::contains;
using test::error_of;

namespace {

DetectionBatchesConfig config(int64_t batch) {
  DetectionBatchesConfig c;
  c.transform.scale = {96, 64};
  c.batch_size = batch, c.seed = 5, c.workers = 0;
  return c;
}

// All that a batch holds, as bytes.
std::string bytes_of(const DetectionBatch& b) {
  std::string text =
      fmt::format("{} {}\n", b.padded.images.shape().str(), fmt::join(b.indices, " "));
  for (const Tensor& t : {b.padded.images, b.padded.valid})
    text.append(static_cast<const char*>(t.raw()), t.bytes());
  for (const auto& objects : b.objects)
    for (const DetectionObject& o : objects)
      text += fmt::format("{} {:a} {}\n", o.label, fmt::join(o.box, " "), rle_to_string(o.mask));
  return text;
}

std::vector<std::string> epoch_of(DetectionBatches& batches, int64_t epoch, int64_t first = 0) {
  std::vector<std::string> all;
  DetectionBatch b;
  for (batches.start_epoch(epoch, first); batches.next(b);) all.push_back(bytes_of(b));
  return all;
}

}  // namespace

TEST_CASE("padded images: the largest multiple of 32, zeros beyond each image") {
  CHECK(padded_size({32, 33}) == ImageSize{32, 64});
  Image a, b;
  a.reset(2, 3), b.reset(40, 5);
  std::ranges::fill(a.pixels, uint8_t(7)), std::ranges::fill(b.pixels, uint8_t(9));
  const Image* const images[] = {&a, &b};
  const PaddedImages padded = pad_images(images);
  REQUIRE(padded.images.shape() == Shape{2, 64, 32, 3});
  CHECK(to_vector<int32_t>(padded.valid) == std::vector<int32_t>{2, 3, 40, 5});
  const std::vector<uint8_t> pixels = to_vector<uint8_t>(padded.images);
  for (int64_t i = 0; i < int64_t(pixels.size()); ++i) {
    const int64_t n = i / (64 * 32 * 3), y = i / (32 * 3) % 64, x = i / 3 % 32;
    const bool inside = n == 0 ? y < 2 && x < 3 : y < 40 && x < 5;
    REQUIRE(int(pixels[size_t(i)]) == (inside ? n == 0 ? 7 : 9 : 0));
  }
}

TEST_CASE("detection batches: the same for any number of workers, and from any batch on") {
  const test::TemporaryFolder dir;
  test::put_coco_scenes(dir.path(), "train", {.count = 9, .bare = 1});
  const auto dataset = open_coco_folder(dir.path().string(), "train", true);
  CHECK(dataset->size() == 8);  // without the bare one
  DetectionBatches none(dataset, config(2));
  const std::vector<std::string> all = epoch_of(none, 3);
  REQUIRE(int64_t(all.size()) == none.batches());
  CHECK(epoch_of(none, 4) != all);
  for (const int workers : {1, 3}) {
    DetectionBatchesConfig c = config(2);
    c.workers = workers;
    DetectionBatches batches(dataset, c);
    CHECK(epoch_of(batches, 3) == all);
    const std::vector<std::string> rest = epoch_of(batches, 3, 1);
    CHECK(std::equal(rest.begin(), rest.end(), all.begin() + 1, all.end()));
  }

  // Images of a batch are alike; each image is there.
  std::set<int64_t> seen;
  DetectionBatch b;
  for (none.start_epoch(3); none.next(b);) {
    const auto* valid = b.padded.valid.data<int32_t>();
    CHECK((valid[0] < valid[1]) == (valid[2] < valid[3]));
    CHECK(b.padded.images.dim(1) % kDetectionMultiple == 0);
    seen.insert(b.indices.begin(), b.indices.end());
    for (size_t i = 0; i < b.objects.size(); ++i)
      for (const DetectionObject& o : b.objects[i]) {
        CHECK(o.mask.height == valid[2 * i]);
        CHECK(o.mask.width == valid[2 * i + 1]);
        CHECK(o.box[2] <= float(valid[2 * i + 1]));
      }
  }
  CHECK(int64_t(seen.size()) == dataset->size());
}

TEST_CASE("detection batches: ranks share the steps of one process") {
  const test::TemporaryFolder dir;
  test::put_coco_scenes(dir.path(), "train", {.count = 10});
  const auto dataset = open_coco_folder(dir.path().string(), "train", true);
  DetectionBatchesConfig one = config(1);
  one.step_batches = 4;
  DetectionBatches alone(dataset, one);
  const std::vector<std::string> all = epoch_of(alone, 1);
  REQUIRE(all.size() % 4 == 0);
  for (int rank = 0; rank < 2; ++rank) {
    DetectionBatchesConfig c = config(1);
    c.step_batches = 2, c.rank = rank, c.ranks = 2;
    DetectionBatches batches(dataset, c);
    const std::vector<std::string> part = epoch_of(batches, 1);
    REQUIRE(part.size() * 2 == all.size());
    for (size_t i = 0; i < part.size(); ++i)
      CHECK(part[i] == all[i / 2 * 4 + size_t(rank) * 2 + i % 2]);
  }
}

TEST_CASE("detection batches: another takes the place of an image that cannot be read") {
  const test::TemporaryFolder dir;
  test::put_coco_scenes(dir.path(), "train", {.count = 8});
  test::put(dir / "train/002.png", "no image");
  const auto dataset = open_coco_folder(dir.path().string(), "train", true);
  DetectionBatchesConfig c = config(2);
  c.max_broken_share = 0.5;
  DetectionBatches batches(dataset, c);
  DetectionBatch b;
  for (batches.start_epoch(0); batches.next(b);)
    for (const int64_t i : b.indices) CHECK(i != 2);
  REQUIRE(batches.broken_samples().size() == 1);
  CHECK(contains(batches.broken_samples().at(2), "002.png"));
  c.max_broken_share = 0;
  DetectionBatches strict(dataset, c);
  CHECK(contains(error_of(ExitCode::data,
                          [&] {
                            for (strict.start_epoch(0); strict.next(b);) {
                            }
                          }),
                 "002.png"));
}

TEST_CASE("coco folder: what is missing is named") {
  const test::TemporaryFolder dir;
  const std::string path = dir.path().string();
  CHECK(contains(error_of(ExitCode::data, [&] { open_coco_folder(path + "/no", "val", false); }),
                 "no such folder"));
  CHECK(contains(error_of(ExitCode::data, [&] { open_coco_folder(path, "val", false); }),
                 "annotations/instances_val.json"));
  test::put_coco_scenes(dir.path(), "val2017", {.count = 2});
  CHECK(open_coco_folder(path, "val", false)->size() == 2);
  std::filesystem::rename(dir / "val2017", dir / "elsewhere");
  CHECK(contains(error_of(ExitCode::data, [&] { open_coco_folder(path, "val", false); }),
                 "expected its images in"));
  std::filesystem::create_directories(dir / "images");
  std::filesystem::rename(dir / "elsewhere", dir / "images/val2017");
  CHECK(open_coco_folder(path, "val", false)->size() == 2);
}
