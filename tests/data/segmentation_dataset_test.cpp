#include "data/segmentation_dataset.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <ranges>

#include "data/sample_maker.h"
#include "tests/data/label_pngs.h"
#include "tests/support/paths.h"

using namespace sg;
using namespace sg::data;
using test::contains;
namespace fs = std::filesystem;

namespace {

// Labels of `values` in turn.
LabelImage cycle(const std::vector<uint8_t>& values, int height = 6, int width = 8) {
  return test::labels_of(
      height, width, [&](int y, int x) { return values[size_t(y * width + x) % values.size()]; });
}

std::vector<uint8_t> label_of(const SegmentationDataset& d, int64_t i) {
  std::vector<uint8_t> buffer;
  LabelImage label;
  const auto source = d.open(i, buffer);
  const ImageSize size{source->height(), source->width()};
  d.read_label(i, size, buffer, label);
  return label.pixels;
}

SegmentationDataset open(const test::TemporaryFolder& dir, SegmentationRequest request = {},
                         Split split = Split::train) {
  return SegmentationDataset(dir.path().string(), split, request);
}

SegmentationClasses read_classes(const std::string& text, bool reduce_zero_label = false) {
  const test::TemporaryFolder dir;
  test::put(dir / "classes.txt", text);
  return read_segmentation_classes(dir / "classes.txt", reduce_zero_label);
}

ClassNames classes(const std::string& text, bool reduce_zero_label = false) {
  return read_classes(text, reduce_zero_label).names;
}

std::string wrong_classes(const std::string& text, bool reduce_zero_label = false) {
  return test::error_of(ExitCode::data, [&] { classes(text, reduce_zero_label); });
}

}  // namespace

TEST_CASE("segmentation: pairs sorted by name, under the names that splits have") {
  const test::TemporaryFolder dir;
  test::put(dir / "classes.txt", "0\tsky\n1\troad\n2\tcar\n");
  for (const char* name : {"b", "a", "deeper/c"})
    test::put_pair(dir.path(), "training", name, cycle({0, 1, 2}));
  test::put_pair(dir.path(), "validation", "v", cycle({2}));
  test::put(dir / "images/training/notes.txt", "x");
  const SegmentationDataset d = open(dir);
  CHECK(d.size() == 3);
  CHECK(d.class_names() == ClassNames{"sky", "road", "car"});
  CHECK(d.key(0) == "a.jpg");
  CHECK(d.key(1) == "b.jpg");
  CHECK(d.key(2) == "deeper/c.jpg");
  CHECK(d.name(2) == (dir / "images/training/deeper/c.jpg").string());
  CHECK(d.label_file(2) == (dir / "annotations/training/deeper/c.png").string());
  CHECK(label_of(d, 2) == cycle({0, 1, 2}).pixels);
  CHECK(std::ranges::any_of(d.remarks(), [](auto& r) { return contains(r, "1 .txt"); }));
  CHECK(open(dir, {}, Split::val).size() == 1);
  CHECK(d.identity(0) != d.identity(1));
  const std::string error =
      test::error_of(ExitCode::data, [&] { open(dir, {.train_split = "night"}); });
  CHECK(contains(error, "images/night"));
}

TEST_CASE("segmentation: labels by the names of their images, whatever the extension") {
  const test::TemporaryFolder dir;
  test::put(dir / "classes.txt", "sky\nroad\n");
  for (const char* name : {"a", "a.b", "c", "d"})
    test::put_pair(dir.path(), "train", name, cycle({1}));
  const fs::path labels = dir / "annotations/train";
  fs::rename(labels / "a.b.png", labels / "a.b.PNG");
  fs::rename(labels / "c.png", labels / "c.jpg");
  fs::copy(labels / "d.png", labels / "d.jpg");
  const SegmentationDataset d = open(dir);
  CHECK(d.label_file(0) == (labels / "a.b.PNG").string());
  CHECK(label_of(d, 0) == cycle({1}).pixels);
  CHECK(d.label_file(1) == (labels / "a.png").string());
  CHECK(d.label_file(3) == (labels / "d.png").string());
  // What is no PNG is refused when it is read, by what is in it and not by its name.
  CHECK(label_of(d, 2) == cycle({1}).pixels);
  CHECK(contains(
      test::error_of(ExitCode::data, [&] { SegmentationDataset("/no/where", Split::train, {}); }),
      "/no/where: no such folder"));
}

TEST_CASE("segmentation: values of the files to classes and to pixels without one") {
  const test::TemporaryFolder dir;
  test::put_pair(dir.path(), "train", "a", cycle({0, 1, 2, 255}));
  test::put(dir / "classes.txt", "0\tvoid\n1\tsky\n2\troad\n");
  CHECK(label_of(open(dir), 0) == cycle({0, 1, 2, 255}).pixels);
  CHECK(label_of(open(dir, {.reduce_zero_label = true}), 0) == cycle({255, 0, 1, 255}).pixels);
  CHECK(open(dir, {.reduce_zero_label = true}).class_names() == ClassNames{"sky", "road"});

  test::put_pair(dir.path(), "train", "a", cycle({0, 1, 2}));
  CHECK(label_of(open(dir, {.ignore_index = 0}), 0) == cycle({255, 1, 2}).pixels);
  CHECK(label_of(open(dir, {.ignore_index = 2, .reduce_zero_label = true}), 0) ==
        cycle({255, 0, 255}).pixels);
}

TEST_CASE("segmentation: 254 with --reduce-zero-label is class 253") {
  const test::TemporaryFolder dir;
  std::string names;
  for (int i = 1; i <= 254; ++i) names += fmt::format("{}\tclass {}\n", i, i);
  test::put(dir / "classes.txt", names);
  test::put_pair(dir.path(), "train", "a", cycle({0, 1, 254, 255}));
  CHECK(label_of(open(dir, {.reduce_zero_label = true}), 0) == cycle({255, 0, 253, 255}).pixels);
}

TEST_CASE("segmentation: a value that is no class ends the run and names place and flags") {
  const test::TemporaryFolder dir;
  test::put(dir / "classes.txt", "0\tsky\n1\troad\n");
  LabelImage label = cycle({0, 1});
  label.pixels[3 * 8 + 5] = 7;
  test::put_pair(dir.path(), "train", "a", label);
  const SegmentationDataset d = open(dir);
  const std::string error = test::error_of(ExitCode::data, [&] { label_of(d, 0); });
  CHECK_THROWS_AS(label_of(d, 0), UnusableData);
  for (const char* part : {"annotations/train/a.png: value 7 at row 3, column 5", "0 to 1",
                           "--class-map", "--reduce-zero-label", "--ignore-index"})
    CHECK(contains(error, part));
  // 255 is ignored by default alone.
  test::put_pair(dir.path(), "train", "a", cycle({0, 255}));
  CHECK(
      contains(test::error_of(ExitCode::data, [&] { label_of(open(dir, {.ignore_index = 1}), 0); }),
               "value 255"));
}

TEST_CASE("segmentation: labels that are missing, damaged or of another size are broken samples") {
  const test::TemporaryFolder dir;
  test::put(dir / "classes.txt", "sky\nroad\n");
  for (const char* name : {"a", "b", "c", "d"})
    test::put_pair(dir.path(), "train", name, cycle({1}));
  fs::remove(dir / "annotations/train/b.png");
  test::put(dir / "annotations/train/c.png", test::label_png(cycle({1}, 3, 8)));
  test::put(dir / "annotations/train/d.png", "no PNG");
  const SegmentationDataset d = open(dir);
  CHECK(d.size() == 4);
  CHECK(std::ranges::any_of(d.remarks(), [](auto& r) {
    return contains(r, "1 of 4 images have no label") && contains(r, "b.png");
  }));
  const auto broken = [&](int64_t i) {
    CHECK_NOTHROW(label_of(d, 0));
    try {
      label_of(d, i);
    } catch (const UnusableData&) {
      FAIL("not a broken sample");
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::data);
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(contains(broken(1), "annotations/train/b.png"));
  CHECK(contains(broken(2), "the label is 8 x 3 pixels (width x height), its image 8 x 6"));
  CHECK(contains(broken(3), "annotations/train/d.png"));
  for (const char* name : {"a", "c", "d"})
    fs::remove(dir / fmt::format("annotations/train/{}.png", name));
  CHECK(contains(test::error_of(ExitCode::data, [&] { open(dir); }), "no image has a label"));
}

TEST_CASE("segmentation: classes by number, by line, of ADE20K; names may occur twice") {
  CHECK(classes("0\tsky\r\n2\troad\n1\tcar\n") == ClassNames{"sky", "car", "road"});
  CHECK(classes("0\tsky\t128 128 128\n1\troad\t128 64 128\n") == ClassNames{"sky", "road"});
  CHECK(classes("sky\t128 128 128\nroad\t128 64 128\n") == ClassNames{"sky", "road"});
  CHECK(classes("2024\nroad\n") == ClassNames{"2024", "road"});
  CHECK(classes("# names\nsky\n\ntraffic light\n") == ClassNames{"sky", "traffic light"});
  CHECK(classes("1\tscreen\n2\tscreen\n", true) == ClassNames{"screen", "screen"});
  CHECK(classes("0\tother\n1\twall\n", true) == ClassNames{"wall"});
  CHECK(classes("Idx,Ratio,Train,Val,Stuff,Name\n1,0.1,5,5,1,wall\n2,0.1,5,5,1,building;edifice\n",
                true) == ClassNames{"wall", "building"});
  CHECK(classes("Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1\t5\t5\t1\twall\n"
                "2\t0.1\t5\t5\t1\tbuilding, edifice\n",
                true) == ClassNames{"wall", "building"});
  CHECK(classes("[\"sky\", \"road\"]") == ClassNames{"sky", "road"});
  CHECK(contains(wrong_classes("1\twall\n2\tsky\n"), "--reduce-zero-label"));
  CHECK(contains(wrong_classes("0\twall\n2\tsky\n"), "a class of number 1"));
  CHECK(contains(wrong_classes("0\twall\n0\tsky\n"), "line 2"));
  CHECK(contains(wrong_classes("0\twall\nsky\n"), "line 2"));
  CHECK(contains(wrong_classes("\n"), "expected 1 to 255 classes, found 0"));
  const test::TemporaryFolder dir;
  test::put_pair(dir.path(), "train", "a", cycle({0}));
  CHECK(contains(test::error_of(ExitCode::data, [&] { open(dir); }), "classes.txt"));
  test::put(dir / "names", "sky\n");
  CHECK(open(dir, {.class_map = dir / "names"}).class_names() == ClassNames{"sky"});
}

TEST_CASE("segmentation: colours behind the names, in every way to write them") {
  using Palette = std::vector<Rgb>;
  const Palette expected{{128, 64, 128}, {250, 170, 30}};
  for (const char* text :
       {"road 128 64 128\ntraffic light 250 170 30\n", "road #804080\ntraffic light #FAaa1e\n",
        "road\t128 64 128\ntraffic light\t250\t170\t30\r\n",
        "1\ttraffic light\t#faaa1e\tstuff\n0\troad\t128 64 128\tflat\n",
        "0\troad 128 64 128\n1\ttraffic light #faaa1e\n"}) {
    CAPTURE(text);
    const SegmentationClasses found = read_classes(text);
    CHECK(found.names == ClassNames{"road", "traffic light"});
    CHECK(found.palette == expected);
  }
  // The colour of what is no class goes with it.
  CHECK(read_classes("0\tvoid\t0 0 0\n1\troad\t128 64 128\n", true).palette ==
        Palette{expected[0]});
  // No colours: those of always. A name may look a little like one.
  for (const char* text :
       {"road\nlane 1 2\n", "0\troad\tflat 1 2 3\n1\tlane 1 2\t300 0 0\n",
        "[\"road\", \"lane 1 2\"]", "road #80408\nlane 300 0 0\n", "1 2 3\n4 5 6\n"})
    CHECK(read_classes(text).palette == class_palette(2));
  const std::string some = wrong_classes("road 128 64 128\nsky\n");
  CHECK(contains(some, "line 1 has a colour behind the name, line 2 has none"));
  CHECK(complete_palette(expected, 3) == Palette{expected[0], expected[1], class_palette(3)[2]});
  CHECK(complete_palette(expected, 1) == Palette{expected[0]});

  const test::TemporaryFolder dir;
  test::put_pair(dir.path(), "train", "a", cycle({0}));
  test::put(dir / "classes.txt", "road 128 64 128\n");
  CHECK(open(dir).palette() == Palette{expected[0]});
}

TEST_CASE("segmentation: the histogram of values shows what flags are missing") {
  const test::TemporaryFolder dir;
  test::put(dir / "classes.txt", "sky\nroad\n");
  for (const char* name : {"a", "b"})
    test::put_pair(dir.path(), "train", name, cycle({0, 0, 0, 255}));
  const std::string masks = open(dir).label_histogram();
  CHECK(contains(masks, "values in 2 of 2 label images: 0 (sky) 75.0 %, 255 (ignored) 25.0 %"));
  CHECK(contains(masks, "--ignore-index"));
  CHECK(contains(masks, "nothing to learn"));

  CHECK(contains(open(dir, {.ignore_index = 0, .reduce_zero_label = true}).label_histogram(),
                 "all these pixels are ignored"));
  for (const char* name : {"a", "b"})
    test::put(dir / fmt::format("annotations/train/{}.png", name), "no PNG");
  CHECK(contains(open(dir).label_histogram(), "warning: none of 2 label images can be read"));
  CHECK(contains(open(dir).label_histogram(), "a.png: expected a label image as PNG"));

  test::put_pair(dir.path(), "train", "b", cycle({1, 2}));
  fs::remove(dir / "annotations/train/a.png");
  const std::string from_one = open(dir).label_histogram();
  CHECK(contains(from_one, "values in 1 of 2"));
  CHECK(contains(from_one, "2 (no class) 50.0 %"));
  CHECK(contains(from_one, "are no class: 2; expected 0 to 1 (2 classes)"));
  CHECK(contains(from_one, "0 (sky) does not occur"));

  LabelImage all = test::labels_of(20, 20, [](int y, int x) { return uint8_t((y * 20 + x) / 2); });
  std::ranges::fill(all.pixels | std::views::drop(380), uint8_t(40));
  test::put_pair(dir.path(), "train", "b", all);
  const std::string many = open(dir).label_histogram();
  CHECK(contains(many, "40 (no class) 5.5 %"));
  CHECK(contains(many, ", 166 more"));  // 190 values, of which 24 are shown

  test::put_pair(dir.path(), "train", "a", cycle({0, 1}));
  fs::remove(dir / "images/train/b.jpg");
  CHECK(!contains(open(dir).label_histogram(), "warning"));
}

TEST_CASE("segmentation: the sample of ADE20K and CamVid") {
  const auto ade = test::shared("data/ade_sample");
  if (ade.empty()) return;
  const SegmentationDataset d(ade.string(), Split::val, {.reduce_zero_label = true});
  CHECK(d.num_classes() == 150);
  CHECK(d.class_names()[0] == "wall");
  CHECK(std::ranges::count(d.class_names(), "screen") == 2);
  for (int64_t i = 0; i < d.size(); ++i)
    CHECK(std::ranges::all_of(label_of(d, i), [](uint8_t v) { return v < 150 || v == 255; }));
  CHECK(!contains(d.label_histogram(), "warning"));
  const SegmentationDataset csv(
      ade.string(), Split::val,
      {.class_map = ade / "objectInfo150.csv", .reduce_zero_label = true});
  CHECK(csv.num_classes() == 150);
  const SegmentationDataset camvid(test::shared("data/camvid").string(), Split::train,
                                   {.ignore_index = 0});
  CHECK(camvid.num_classes() == 12);
  CHECK(camvid.size() > 300);
  CHECK(std::ranges::none_of(label_of(camvid, 0), [](uint8_t v) { return v == 0; }));
}
