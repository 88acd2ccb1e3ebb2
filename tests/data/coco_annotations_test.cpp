// COCO's files as they should be, and every way in which they are not.
#include "data/coco/annotations.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "data/coco/results.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;
using nlohmann::json;
using test::contains;
using test::error_of;

namespace {

// Two images and three objects, with what readers pass over.
json small() {
  return json::parse(R"({
    "info": {"year": 2017, "more": [[1, {"id": 3}]]}, "licenses": [],
    "annotations": [
      {"id": 7, "image_id": 30, "category_id": 18, "bbox": [1, 2, 3.5, 4], "area": 9.25, "iscrowd": 0,
       "segmentation": [[1, 2, 4, 2, 4, 6, 1, 6]], "keypoints": [[0], {"a": null}]},
      {"id": 5, "image_id": 4, "category_id": 90, "bbox": [0, 0, 2, 1], "area": 2, "iscrowd": 1,
       "segmentation": {"size": [3, 5], "counts": [0, 2, 13]}},
      {"id": 6, "image_id": 30, "category_id": 90, "bbox": [0, 0, 1, 1], "area": 1, "ignore": 1}],
    "images": [{"id": 30, "file_name": "b.jpg", "width": 10, "height": 8},
               {"id": 4, "file_name": "a.jpg", "width": 5, "height": 3, "license": 2}],
    "categories": [{"id": 90, "name": "toothbrush", "supercategory": "indoor"}, {"id": 18, "name": "dog"}]})");
}

json results() {
  return json::parse(R"([{"image_id": 30, "category_id": 18, "bbox": [1, 2, 3, 4], "score": 0.5},
    {"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1},
    {"image_id": 30, "category_id": 90, "bbox": [1, 2, 3, 4], "score": 0.25}])");
}

struct Files {
  test::TemporaryFolder folder;
  std::filesystem::path file = folder / "instances.json", found = folder / "found.json";

  CocoAnnotations read(const json& j) {
    test::put(file, j.dump());
    return CocoAnnotations(file);
  }
  std::string error(const json& j) { return error_of_text(j.dump()); }
  std::string error_of_text(const std::string& text) {
    test::put(file, text);
    const std::string message = error_of(ExitCode::data, [&] { CocoAnnotations{file}; });
    CHECK(message.starts_with(file.string() + ": "));
    return message.substr(std::min(message.size(), file.string().size() + 2));
  }
  std::string error_of_results(const json& j, bool masks = false) {
    const CocoAnnotations of = read(small());
    test::put(found, j.dump());
    return error_of(ExitCode::data, [&] { CocoResults(found, of, masks); })
        .substr(found.string().size() + 2);
  }
};

}  // namespace

TEST_CASE("coco annotations: images and categories by ascending id, objects in the file's order") {
  Files files;
  const CocoAnnotations a = files.read(small());
  REQUIRE(a.size() == 2);
  CHECK(a.image(0).id == 4);
  CHECK(a.image(1).height == 8);
  CHECK(a.image(1).width == 10);
  CHECK(a.file_name(0) == "a.jpg");
  CHECK(a.class_names() == ClassNames{"dog", "toothbrush"});
  CHECK(a.find_image(30) == 1);
  CHECK(a.find_image(5) == -1);
  CHECK(a.find_label(90) == 1);
  CHECK(a.find_label(17) == -1);
  REQUIRE(a.objects(0).size() == 1);
  REQUIRE(a.objects(1).size() == 2);
  const CocoObject &crowd = a.objects(0)[0], &dog = a.objects(1)[0], &bare = a.objects(1)[1];
  CHECK(crowd.crowd);
  CHECK(crowd.label == 1);
  CHECK(a.mask(0, crowd) == RleMask{3, 5, {0, 2, 13}});
  CHECK(dog.id == 7);
  CHECK(dog.label == 0);
  CHECK(dog.box == CocoBox{1, 2, 3.5, 4});
  CHECK(dog.area == 9.25);
  CHECK(!dog.crowd);
  CHECK(!dog.ignore);
  CHECK(a.mask(1, dog).area() == 12);
  CHECK(bare.ignore);
  CHECK(contains(error_of(ExitCode::data, [&] { a.mask(1, bare); }),
                 "annotation 6: segmentation: it is missing"));
  CHECK(CocoAnnotations(files.file, CocoAnnotations::Masks::leave_out).objects(1)[0].segmentation ==
        kNoSegmentation);
}

TEST_CASE("coco annotations: a file longer than the blocks in which it is read") {
  Files files;
  json j = small();
  j["annotations"] = json::array();
  for (int i = 0; i < 30000; ++i)
    j["annotations"].push_back({{"id", i + 1},
                                {"image_id", i % 2 ? 4 : 30},
                                {"category_id", 18},
                                {"bbox", {i, 1, 2, 3}},
                                {"area", i},
                                {"segmentation", {{1.25, 2, 3, 2, 3, 4}}}});
  const CocoAnnotations a = files.read(j);
  CHECK(std::filesystem::file_size(files.file) > 3 << 20);
  CHECK(a.objects() == 30000);
  for (size_t i = 0; i < 15000; ++i) REQUIRE(a.objects(0)[i].box.x == double(2 * i + 1));
}

TEST_CASE("coco annotations: what is wrong is named with file, record and field") {
  Files files;
  const auto changed = [&](const char* list, size_t i, const char* field, const json& value) {
    json j = small();
    j[list][i][field] = value;
    return files.error(j);
  };
  const auto without = [&](const char* list, size_t i, const char* field) {
    json j = small();
    j[list][i].erase(field);
    return files.error(j);
  };
  const auto is = [](const std::string& found, const std::string& expected) {
    CHECK(found == expected);
  };
  for (const char* field : {"image_id", "category_id", "bbox", "area"})
    is(without("annotations", 1, field),
       fmt::format("annotations[1] (id 5): the field '{}' is missing", field));
  is(without("annotations", 2, "id"), "annotations[2]: the field 'id' is missing");
  for (const char* field : {"file_name", "width", "height"})
    is(without("images", 1, field),
       fmt::format("images[1] (id 4): the field '{}' is missing", field));
  is(without("categories", 0, "name"), "categories[0] (id 90): the field 'name' is missing");

  const std::string a = "annotations[0] (id 7): ";
  is(changed("annotations", 0, "image_id", 5), a + "image_id 5 is none of the list of images");
  is(changed("annotations", 0, "category_id", 1),
     a + "category_id 1 is none of the list of categories");
  is(changed("annotations", 0, "id", 5), "annotations[1]: the id 5 is that of annotations[0] too");
  is(changed("images", 0, "id", 4), "images[1]: the id 4 is that of images[0] too");
  is(changed("categories", 0, "id", 18), "categories[1]: the id 18 is that of categories[0] too");
  is(changed("images", 0, "width", 0),
     "images[0] (id 30): expected a width and height of 1 to 2^31 pixels in all, found 0 and 8");
  is(changed("images", 0, "width", 1 << 30),
     "images[0] (id 30): expected a width and height of 1 to 2^31 pixels in all, found 1073741824 "
     "and 8");

  const std::string early = "annotations[0]: ";  // before its id is known
  const std::string whole = "expected a whole number, found ";
  is(changed("images", 0, "id", "30"), "images[0]: id: " + whole + "a string");
  is(changed("images", 0, "width", 1.5), "images[0] (id 30): width: " + whole + "1.5");
  is(changed("annotations", 0, "image_id", json()), a + "image_id: " + whole + "null");
  is(changed("annotations", 0, "image_id", json::array({1})), a + "image_id: " + whole + "a list");
  is(changed("annotations", 0, "area", "9"), early + "area: expected a number, found a string");
  is(changed("annotations", 0, "area", json::object()),
     early + "area: expected a number, found an object");
  is(changed("annotations", 0, "iscrowd", "no"), a + "iscrowd: expected 0 or 1, found a string");
  const std::string box = "bbox: expected a list of 4 numbers: x, y, width, height, found ";
  is(changed("annotations", 0, "bbox", {1, 2, 3}), early + box + "a list of 3");
  is(changed("annotations", 0, "bbox", 5), early + box + "a number");
  is(changed("annotations", 0, "bbox", {{1, 2, 3, 4}}), early + box + "a list");
  const std::string mask =
      "segmentation: expected a list of polygons [x0, y0, x1, y1, ...], or an RLE {size: [height, "
      "width], counts}, found ";
  is(changed("annotations", 0, "segmentation", {1, 2, 3, 4, 5, 6}), a + mask + "a number");
  is(changed("annotations", 0, "segmentation", "Pf4"), a + mask + "a string");
  is(changed("annotations", 0, "segmentation", {{{1, 2}}}), a + mask + "a list");
  is(changed("annotations", 0, "segmentation", {{"counts", {1}}}),
     a + mask + "an RLE without a size of 2 numbers");
  is(changed("annotations", 0, "segmentation", {{"size", {8, 10}}, {"counts", {80.5}}}),
     a + mask + "80.5 in the RLE");
  is(changed("annotations", 0, "segmentation", {{"size", {8, 10}}, {"counts", {-1}}}),
     a + mask + "-1 in the RLE");
  is(changed("annotations", 0, "segmentation", {{"size", {8, 10}}, {"counts", {79}}}),
     a + "segmentation: RLE: expected counts that add up to 8 x 10 pixels, found a sum of 79");
  is(changed("annotations", 0, "segmentation", {{"size", {8, 10}}, {"counts", "~"}}),
     a + "segmentation: RLE: expected characters from '0' to 'o' in the string of counts, found "
         "code 126 at 0");
  is(changed("annotations", 0, "segmentation", {{1, 2, 3, 4}, {1, 2, 3, 4, 5, 6}}),
     a + "segmentation: expected boxes of 4 numbers, as the first list is one, found 6");
}

TEST_CASE("coco annotations: ids may be written as 7.0, and flags as true") {
  Files files;
  json j = small();
  j["annotations"][0]["id"] = 7.0, j["annotations"][1]["iscrowd"] = true;
  const CocoAnnotations a = files.read(j);
  CHECK(a.objects(1)[0].id == 7);
  CHECK(a.objects(0)[0].crowd);
}

TEST_CASE("coco annotations: files that are something else") {
  Files files;
  const std::string good = small().dump();
  CHECK(contains(files.error_of_text(""), "not valid JSON"));
  CHECK(contains(files.error_of_text(good.substr(0, good.size() - 1)), "not valid JSON"));
  CHECK(contains(files.error_of_text(good + "x"), "not valid JSON"));
  CHECK(contains(files.error_of_text(good + std::string(1, '\0') + "x"), "zero byte"));
  CHECK(contains(files.error_of_text("[]"),
                 "expected an object with images, categories and annotations, found a list"));
  CHECK(contains(files.error_of_text("5"),
                 "expected an object with images, categories and annotations, found a number"));
  CHECK(contains(files.error_of_text("{}"), "the list 'images' is missing"));
  CHECK(contains(files.error_of_text(R"({"images": 5})"),
                 "images: expected a list of objects, found a number"));
  CHECK(contains(files.error_of_text(R"({"images": {}})"),
                 "images: expected a list of objects, found an object"));
  CHECK(contains(files.error_of_text(R"({"images": [5]})"),
                 "images: expected a list of objects, found a number"));
  CHECK(contains(files.error_of_text(R"({"images": [[]]})"),
                 "images: expected a list of objects, found a list"));
  CHECK(contains(files.error_of_text(R"({"images": [], "images": []})"), "'images' occurs twice"));
  CHECK(contains(files.error_of_text(R"({"images": [{"id": 1, "id": 1}]})"),
                 "images[0] (id 1): 'id' occurs twice"));
  CHECK(contains(files.error_of_text(R"({"info": )" + std::string(100, '[')),
                 "nests more than 64 levels"));
  CHECK(contains(files.error_of_text(R"({"images": [{"id": 1e999}]})"), "not valid JSON"));
  for (const char* list : {"images", "categories", "annotations"}) {
    json j = small();
    j.erase(list);
    CHECK(contains(files.error(j), fmt::format("the list '{}' is missing", list)));
  }
  CHECK(contains(error_of(ExitCode::data, [&] { CocoAnnotations{files.folder / "none.json"}; }),
                 "none.json"));
}

// Whatever byte is missing or another, it ends in a message or in annotations.
TEST_CASE("coco annotations: damaged files") {
  Files files;
  const std::string good = small().dump();
  int refused = 0;
  for (size_t i = 0; i < good.size(); i += 3)
    for (const char c : {'\0', '[', '}', '"', '9', '-'}) {
      std::string bad = good;
      if (c)
        bad[i] = c;
      else
        bad.resize(i);
      test::put(files.file, bad);
      try {
        const CocoAnnotations a(files.file);
        for (int64_t k = 0; k < a.size(); ++k)
          for (const CocoObject& o : a.objects(k))
            if (o.segmentation != kNoSegmentation) a.mask(k, o);
      } catch (const Error& e) {
        CHECK(int(e.code()) == int(ExitCode::data));
        ++refused;
      }
    }
  CHECK(refused > 500);
}

TEST_CASE("coco results: by image; an unknown category is left out, an unknown image refused") {
  Files files;
  const CocoAnnotations of = files.read(small());
  test::put(files.found, results().dump());
  const CocoResults r(files.found, of, false);
  CHECK(r.size() == 2);
  CHECK(r.left_out() == 1);
  CHECK(r.of(0).empty());
  REQUIRE(r.of(1).size() == 2);
  CHECK(r.of(1)[0].label == 0);
  CHECK(r.of(1)[1].score == 0.25);
  test::put(files.found, "[]");
  CHECK(CocoResults(files.found, of, true).size() == 0);

  json j = results();
  j[2]["image_id"] = 31;
  CHECK(contains(files.error_of_results(j), "results[2] (image_id 31): image_id is none of "));
  CHECK(files.error_of_results(results(), true) ==
        "results[0] (image_id 30): the field 'segmentation' is missing");
  j = results();
  j[1].erase("score");
  CHECK(files.error_of_results(j) == "results[1] (image_id 4): the field 'score' is missing");
  CHECK(contains(files.error_of_results(small()),
                 "results: expected a list of objects, found an object"));
}
