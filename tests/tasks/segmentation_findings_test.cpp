#include "tasks/segmentation_findings.h"

#include "tests/support/scenes.h"

using namespace sg;
using test::contains;

TEST_CASE("segmentation findings: a row per class, absent ones without numbers") {
  tasks::PixelConfusion confusion(4);
  confusion.add(std::vector<uint8_t>{0, 0, 0, 0, 1, 1}, std::vector<uint8_t>{0, 0, 0, 2, 1, 0});
  using Row = std::vector<std::string>;
  const Table t = tasks::scores_by_class(confusion, {"sky", "road", "car"});
  CHECK(t.rows == std::vector<Row>{{"sky", "4", "60.00 %", "75.00 %", "car (25.0 %)"},
                                   {"road", "2", "50.00 %", "50.00 %", "sky (50.0 %)"},
                                   {"car", "0", "0.00 %", "-", ""},
                                   {"class 3", "0", "-", "-", ""}});
  CHECK(t.columns.size() == 5);
  const Matrix m = tasks::pixel_matrix(confusion, {"sky", "road", "car"});
  CHECK(m.names == std::vector<std::string>{"sky", "road", "car", "class 3"});
  CHECK(m.counts == confusion.counts());
}

TEST_CASE("segmentation findings: images with truth and prediction; those that are gone left out") {
  const test::TemporaryFolder dir;
  test::put_scenes(dir.path(), "val", 2);
  const data::SegmentationDataset dataset(dir.path().string(), data::Split::val, {});
  const std::vector<tasks::LabelledImage> images{{{0, 0.25, 0.5}, zeros({40, 56}, Dtype::u8)},
                                                 {{1, 0.5, 0.75}, zeros({41, 55}, Dtype::u8)}};
  const Gallery g = tasks::label_gallery("Worst", "text", images, dataset);
  REQUIRE(g.items.size() == 2);
  CHECK(g.wide);
  CHECK(g.items[0].headline == "mIoU 25.00 %");
  CHECK(g.items[0].note == "50.00 % of the pixels right\n000.png");
  std::filesystem::remove(dir / "images/val/000.png");
  CHECK(tasks::label_gallery("Worst", "text", images, dataset).items.size() == 1);
}

TEST_CASE("segmentation findings: training crops beside their labels") {
  const Tensor images = zeros({3, 32, 48, 3}, Dtype::u8), labels = zeros({3, 32, 48}, Dtype::u8);
  const Tensor valid = from_vector<int32_t>({32, 48, 20, 48, 32, 30}, {3, 2});
  const Gallery g =
      tasks::training_crops(images, valid, labels, {"sky"}, data::class_palette(2), 2);
  REQUIRE(g.items.size() == 2);
  CHECK(g.items[0].headline == "32 x 48");
  CHECK(g.items[0].note.empty());
  CHECK(g.items[1].headline == "20 x 48");
  CHECK(contains(g.items[1].note, "padding"));
}
