// Training samples of detection: the chain beside the same in Python (opencv/), what is drawn, and
// the sets of images.
#include "data/detection_transform.h"

#include <doctest/doctest.h>
#include <zlib.h>

#include <nlohmann/json.hpp>
#include <set>

#include "data/aspect_order.h"
#include "data/coco/segmentation.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;
using nlohmann::json;
using test::contains;
using test::error_of;

namespace {

// As make_detection_cases.py.
Image image_of(int height, int width) {
  Image image;
  image.reset(height, width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        image.row(y)[x * 3 + c] = uint8_t(7 * x + 13 * y + 29 * c + x * y % 31);
  return image;
}

struct Case {
  DetectionTransformConfig config;
  DetectionDraw draw;
  Image image;
  std::vector<DetectionObject> objects;

  explicit Case(const json& j) : image(image_of(j.at("height"), j.at("width"))) {
    config.multi_scale = j.at("multi_scale").get<int>() != 0;
    draw.flip = j.at("flip").get<int>() != 0;
    draw.to = {j.at("to").at(0), j.at("to").at(1)};
    if (const json& crop = j.at("crop"); !crop.is_null()) {
      const auto box = crop.at("box").get<std::array<int, 4>>();
      draw.crop = {{crop.at("of").at(0), crop.at("of").at(1)}, {box[0], box[1], box[2], box[3]}};
    }
    for (const json& o : j.at("objects")) {
      const auto [x, y, w, h] = o.at("bbox").get<std::array<double, 4>>();
      const auto polygon = o.at("polygon").get<std::vector<double>>();
      const std::vector<size_t> ends{polygon.size()};
      // The label says which object it is.
      objects.push_back({int32_t(objects.size()),
                         {float(x), float(y), float(x + w), float(y + h)},
                         CocoSegmentation(polygon, ends).mask(image.height, image.width)});
    }
  }
};

// Annotations of images, each with one object unless it has none.
struct Set {
  test::TemporaryFolder folder;
  json j{{"images", json::array()},
         {"categories", {{{"id", 3}, {"name", "car"}}}},
         {"annotations", json::array()}};

  void add_image(int height, int width) {
    const auto id = j["images"].size() + 1;
    j["images"].push_back({{"id", id},
                           {"height", height},
                           {"width", width},
                           {"file_name", fmt::format("{}.ppm", id)}});
    const Image image = image_of(height, width);
    std::string bytes = fmt::format("P6\n{} {}\n255\n", width, height);
    bytes.append(image.pixels.begin(), image.pixels.end());
    test::put(folder / fmt::format("{}.ppm", id), bytes);
  }
  void add(int image, std::vector<double> box, json more = json::object()) {
    json a{{"id", j["annotations"].size() + 1},
           {"image_id", image},
           {"category_id", 3},
           {"bbox", box},
           {"area", 10},
           {"segmentation", {{1, 1, 30, 1, 30, 30}}}};
    a.update(more);
    j["annotations"].push_back(a);
  }
  CocoDataset open(bool training) const {
    test::put(folder / "a.json", j.dump());
    return {folder.path().string(), std::make_shared<CocoAnnotations>(folder / "a.json"), training};
  }
};

}  // namespace

TEST_CASE("detection transform: images, boxes and masks of OpenCV and mmdetection's chain") {
  const json cases =
      json::parse(read_file(SG_TEST_DATA_DIR "/opencv/detection_cases.json")).at("cases");
  CHECK(cases.size() == 24);
  size_t objects = 0, crops = 0;
  for (const json& j : cases) {
    Case c(j);
    DetectionSample found;
    DetectionTransform(c.config).apply(c.draw, c.image, c.objects, found);
    CHECK(ImageSize(found.image.height, found.image.width) == c.draw.to);
    const json& expected = j.at("expected");
    CHECK(crc32(0, found.image.pixels.data(), uInt(found.image.pixels.size())) ==
          expected.at("crc32").get<uLong>());
    REQUIRE(found.objects.size() == expected.at("objects").size());
    for (size_t k = 0; k < found.objects.size(); ++k) {
      const DetectionObject& o = found.objects[k];
      const json& e = expected.at("objects")[k];
      CHECK(o.label == e.at("object").get<int>());
      CHECK(o.box == e.at("box").get<std::array<float, 4>>());
      CHECK(o.mask.height == c.draw.to.height);
      CHECK(rle_to_string(o.mask) == e.at("rle").get<std::string>());
    }
    objects += found.objects.size(), crops += c.draw.crop.has_value();
  }
  CHECK(objects > 40);
  CHECK(crops == 12);
}

TEST_CASE("detection transform: draws are of one or several scales, and of (seed, epoch, sample)") {
  const ImageSize size{427, 640};
  const auto draw = [&](bool multi_scale, int64_t epoch, int64_t sample) {
    return draw_detection({.multi_scale = multi_scale}, size, 42, epoch, sample);
  };
  int flips = 0, crops = 0;
  std::set<int> sides, before, heights, lefts;
  for (int64_t i = 0; i < 2000; ++i) {
    CHECK(draw(false, 0, i).to == ImageSize{800, 1199});
    CHECK(!draw(false, 0, i).crop);
    const DetectionDraw d = draw(true, i % 7, i);
    flips += d.flip, crops += d.crop.has_value();
    sides.insert(std::min(d.to.height, d.to.width));
    CHECK(std::max(d.to.height, d.to.width) <= 1333);
    if (!d.crop) continue;
    const Box& b = d.crop->box;
    before.insert(d.crop->of.height), heights.insert(b.height), lefts.insert(b.left);
    CHECK(b.height >= 384);
    CHECK(b.width >= 384);
    CHECK(b.height <= std::min(600, d.crop->of.height));
    CHECK(b.width <= std::min(600, d.crop->of.width));
    CHECK(b.top >= 0);
    CHECK(b.left >= 0);
    CHECK(b.bottom() <= d.crop->of.height);
    CHECK(b.right() <= d.crop->of.width);
  }
  CHECK(flips > 900);
  CHECK(flips < 1100);
  CHECK(crops > 900);
  CHECK(crops < 1100);
  CHECK(before == std::set{400, 500, 600});
  CHECK(*heights.begin() == 384);
  CHECK(*heights.rbegin() == 600);
  CHECK(*lefts.begin() == 0);
  std::set<int> expected;
  for (int s = 480; s <= 800; s += 32) expected.insert(s);
  CHECK(sides == expected);
  CHECK(draw(true, 3, 5).to == draw(true, 3, 5).to);
  // A crop of an image that is smaller than crops are is the whole side.
  for (int64_t i = 0; i < 50; ++i)
    if (const DetectionDraw d = draw_detection({.multi_scale = true}, {50, 900}, 1, 0, i); d.crop) {
      CHECK(d.crop->box.height == d.crop->of.height);
      CHECK(d.crop->box.width >= 384);
    }
}

TEST_CASE("coco dataset: images and objects that are trained on") {
  Set set;
  for (const auto& [h, w] : {std::pair{40, 50}, {31, 90}, {60, 40}, {50, 50}}) set.add_image(h, w);
  set.add(1, {5, 5, 10, 10});
  set.add(1, {5, 5, 10, 10}, {{"iscrowd", 1}});
  set.add(1, {5, 5, 10, 10}, {{"ignore", 1}});
  set.add(1, {5, 5, 0.9, 10});
  set.add(1, {5, 5, 10, 0.9});
  set.add(1, {5, 5, 10, 10}, {{"area", 0}});
  set.add(1, {50, 5, 10, 10});  // beyond the image
  set.add(1, {-10, 5, 10, 10});
  set.add(1, {49.5, 39.5, 10, 10});  // half a pixel in it
  set.add(2, {5, 5, 10, 10});        // too low an image
  set.add(4, {5, 5, 10, 10}, {{"iscrowd", 1}});
  const CocoDataset all = set.open(false), trained = set.open(true);
  CHECK(all.size() == 4);
  REQUIRE(trained.size() == 2);
  CHECK(trained.key(1) == "4.ppm");
  CHECK(trained.class_names() == ClassNames{"car"});
  REQUIRE(trained.remarks().size() == 1);
  CHECK(
      contains(trained.remarks()[0],
               "2 of 4 images are not trained on: 1 have no annotation, 1 a side below 32 pixels"));
  std::vector<int64_t> ids;
  for (const CocoObject* o : trained.training_objects(0)) ids.push_back(o->id);
  CHECK(ids == std::vector<int64_t>{1, 9});
  CHECK(trained.training_objects(1).empty());

  DetectionSample sample;
  DetectionTransform({}).train(trained, 0, 1, 2, sample);
  CHECK(ImageSize(sample.image.height, sample.image.width) == ImageSize{800, 1000});
  REQUIRE(sample.objects.size() == 2);
  CHECK(sample.objects[0].mask.width == 1000);
  CHECK(sample.objects[1].box[3] == 800);
  DetectionSample again;
  DetectionTransform({}).train(trained, 0, 1, 2, again);
  CHECK(again.image.pixels == sample.image.pixels);
  DetectionTransform({}).train(trained, 1, 1, 2, sample);
  CHECK(sample.objects.empty());

  std::vector<uint8_t> buffer;
  set.j["images"][0]["width"] = 51;
  CHECK(contains(error_of(ExitCode::data, [&] { set.open(true).open(0, buffer); }),
                 "the image is 50 x 40 pixels (width x height), "));
  set.j["annotations"] = json::array();
  CHECK(contains(error_of(ExitCode::data, [&] { set.open(true); }), "no image with an annotation"));
}

TEST_CASE("coco dataset: COCO's own files") {
  const auto folder = test::shared("data/coco_mini");
  if (folder.empty()) return;
  const auto annotations =
      std::make_shared<CocoAnnotations>(folder / "annotations/instances_train2017.json");
  CHECK(annotations->size() == 150);
  CHECK(annotations->objects() == 1208);
  const CocoDataset trained((folder / "train2017").string(), annotations, true);
  CHECK(trained.size() == 148);  // 250 and 508 have no annotation
  DetectionTransform transform({.multi_scale = true});
  DetectionSample sample;
  for (int64_t i = 0; i < trained.size(); i += 10) {
    transform.train(trained, i, 42, 0, sample);
    CHECK(sample.objects.size() <= trained.training_objects(i).size());
    for (const DetectionObject& o : sample.objects) {
      CHECK(o.box[0] < o.box[2]);
      CHECK(o.box[2] <= float(sample.image.width));
      CHECK(o.mask.width == sample.image.width);
    }
  }
}

TEST_CASE("aspect order: batches of one kind, every image once, or twice to fill a step") {
  std::vector<ImageSize> sizes;
  for (int i = 0; i < 37; ++i) sizes.push_back(i % 3 ? ImageSize(40, 60) : ImageSize(60, 40));
  sizes[5] = 50;  // a square is not wide
  const auto order = aspect_order(sizes, 2, 4, 42, 3);
  CHECK(order.size() == 16 + 24);  // 14 and 23 of the kinds
  std::vector<int> seen(sizes.size());
  for (size_t i = 0; i < order.size(); i += 2) {
    const auto wide = [&](int64_t k) { return sizes[size_t(k)].width > sizes[size_t(k)].height; };
    CHECK(wide(order[i]) == wide(order[i + 1]));
    ++seen[size_t(order[i])], ++seen[size_t(order[i + 1])];
  }
  CHECK(*std::ranges::min_element(seen) == 1);
  CHECK(*std::ranges::max_element(seen) == 2);
  CHECK(aspect_order(sizes, 2, 4, 42, 3) == order);
  CHECK(aspect_order(sizes, 2, 4, 42, 4) != order);
  CHECK(aspect_order(sizes, 2, 4, 43, 3) != order);
  // Fewer images than a step has: again and again.
  CHECK(aspect_order(std::vector{ImageSize(4, 5)}, 2, 2, 1, 0) == std::vector<int64_t>{0, 0, 0, 0});
  CHECK(aspect_order({}, 2, 2, 1, 0).empty());
}
