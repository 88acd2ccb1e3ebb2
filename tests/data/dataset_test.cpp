#include "data/dataset.h"

#include <zlib.h>

#include <filesystem>

#include "tests/data/images.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;
using test::contains;
using test::put;
namespace fs = std::filesystem;

namespace {

std::string big_endian(std::initializer_list<uint32_t> numbers) {
  std::string s;
  for (uint32_t n : numbers)
    for (int shift : {24, 16, 8, 0}) s += char(n >> shift);
  return s;
}

std::string gzipped(const std::string& text) {
  const test::TemporaryFolder folder;
  const std::string path = (folder / "a.gz").string();
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), unsigned(text.size()));
  gzclose(file);
  return test::text(test::read(path));
}

Image image_of(const Dataset& d, int64_t i) {
  std::vector<uint8_t> buffer;
  Image image;
  d.open(i, buffer)->read(image);
  return image;
}

template <class F>
std::string data_error(F&& f) {
  return test::error_of(ExitCode::data, f);
}

}  // namespace

TEST_CASE("class folders: sorted, any case of extension, nested, hidden names left out") {
  const test::TemporaryFolder dir;
  const std::string file = test::text(test::png(test::scene(4, 4)));
  for (const char* f : {"train/zebra", "train/ant/images", "train/.ipynb_checkpoints", "val/ant"})
    fs::create_directories(dir / f);
  for (const char* f : {"train/zebra/b.JPEG", "train/zebra/a.png", "train/zebra/._a.png",
                        "train/zebra/notes.txt", "train/ant/images/x y'z.Jpg", "val/ant/q.bmp"})
    put(dir / f, file);
  const auto train = open_dataset(dir.path().string(), Split::train);
  CHECK(train->class_names() == ClassNames{"ant", "zebra"});
  REQUIRE(train->size() == 3);
  CHECK(train->label(0) == 0);
  CHECK(train->label(1) == 1);
  CHECK(train->label(2) == 1);
  CHECK(train->name(0) == (dir / "train/ant/images/x y'z.Jpg").string());
  CHECK(train->name(1) == (dir / "train/zebra/a.png").string());
  CHECK(image_of(*train, 2).pixels == test::decode_all(test::png(test::scene(4, 4))));

  const auto val = open_dataset(dir.path().string(), Split::val);
  CHECK(val->num_classes() == 1);
  const std::string error =
      data_error([&] { open_dataset(dir.path().string(), Split::val, train->class_names()); });
  CHECK(contains(error, "missing zebra"));
  // A folder of classes itself, for evaluation.
  CHECK(open_dataset((dir / "train").string(), Split::val)->size() == 3);
}

TEST_CASE("folders that cannot be trained on are refused with what to do") {
  const test::TemporaryFolder dir;
  const std::string root = dir.path().string();
  const auto open = [&](Split s) { return data_error([&] { open_dataset(root, s); }); };
  CHECK(contains(data_error([&] { open_dataset(root + "/none", Split::train); }), "--data"));
  CHECK(contains(open(Split::train), "'train'"));
  CHECK(contains(open(Split::val), "sub-folder a class"));
  fs::create_directories(dir / "train");
  CHECK(contains(open(Split::train), "sub-folder a class"));
  CHECK(contains(open(Split::val), "'validation'"));
  fs::create_directories(dir / "train/cat");
  fs::create_directories(dir / "train/dog");
  put(dir / "train/cat/a.png", "x");
  put(dir / "train/dog/a.webp", "x");
  const std::string empty_class = open(Split::train);
  CHECK(contains(empty_class, "in 1 of 2 classes: dog"));
  CHECK(contains(empty_class, "1 other files"));
  CHECK(contains(empty_class, ".jpeg"));
  fs::create_directory_symlink(dir / "train", dir / "train/dog/circle");
  CHECK(contains(open(Split::train), "circle"));
}

TEST_CASE("IDX files, gzipped or not") {
  const test::TemporaryFolder dir;
  const std::string pixels = {0, 1, 2, 3, 4, 5, '\xFF', 7, 8, 9, 10, 11};
  put(dir / "train-images-idx3-ubyte.gz", gzipped(big_endian({0x803, 2, 2, 3}) + pixels));
  put(dir / "train-labels-idx1-ubyte.gz", gzipped(big_endian({0x801, 2}) + "\x07\x01"));
  put(dir / "t10k-images.idx3-ubyte", big_endian({0x803, 1, 2, 3}) + pixels.substr(0, 6));
  put(dir / "t10k-labels.idx1-ubyte", big_endian({0x801, 1}) + "\x09");
  const auto train = open_dataset(dir.path().string(), Split::train);
  CHECK(train->size() == 2);
  CHECK(train->num_classes() == 10);
  CHECK(train->class_names()[3] == "3");
  CHECK(train->label(0) == 7);
  const Image second = image_of(*train, 1);
  CHECK(second.height == 2);
  CHECK(second.width == 3);
  CHECK(second.row(0)[0] == 255);
  CHECK(second.row(1)[6] == 11);
  CHECK(second.row(1)[8] == 11);
  CHECK(contains(train->name(1), "image 1"));
  const auto val = open_dataset(dir.path().string(), Split::val, train->class_names());
  CHECK(val->label(0) == 9);
}

TEST_CASE("damaged IDX files end in an error that names the file") {
  const std::string images = big_endian({0x803, 2, 1, 2}) + "abcd",
                    labels = big_endian({0x801, 2}) + std::string("\0\1", 2);
  const auto open = [&](const std::string& i, const std::string& l) {
    const test::TemporaryFolder dir;
    put(dir / "train-images-idx3-ubyte", i);
    put(dir / "train-labels-idx1-ubyte", l);
    const std::string error = data_error([&] { open_dataset(dir.path().string(), Split::train); });
    CHECK(contains(error, dir.path().string()));
    return error;
  };
  CHECK(contains(open(labels, labels), "0x803"));
  CHECK(contains(open(images, images), "0x801"));
  CHECK(contains(open(images + "e", labels), "more data"));
  CHECK(contains(open(images, big_endian({0x801, 3}) + "abc"), "3 labels"));
  CHECK(contains(open(big_endian({0x803, 0, 1, 2}), labels), "0 images"));
  // Claims far more than is there: no such memory is taken.
  CHECK(contains(
      open(big_endian({0x803, 4'000'000, 60, 60}) + "abcd", big_endian({0x801, 4'000'000})),
      "truncated"));
  CHECK(contains(open(big_endian({0x803, 0xFFFFFFFF, 0xFFFF, 0xFFFF}), labels), "says"));
  for (size_t n = 0; n < images.size(); ++n) open(images.substr(0, n), labels);
  for (size_t n = 0; n < labels.size(); ++n) open(images, labels.substr(0, n));
  const std::string zipped = gzipped(images);
  for (size_t n = 0; n < zipped.size(); ++n) open(zipped.substr(0, n), labels);
  std::string flipped = zipped;
  flipped[zipped.size() - 6] ^= 1;  // in the checksum
  CHECK(contains(open(flipped, labels), "damaged"));
  const test::TemporaryFolder dir;
  put(dir / "train-images-idx3-ubyte", images);
  CHECK(contains(data_error([&] { open_dataset(dir.path().string(), Split::train); }), "labels"));
}

TEST_CASE("Fashion-MNIST as Debian packs it") {
  const std::string root = "/usr/share/datasets/fashion-mnist";
  if (!fs::exists(root)) {
    test::skip(root + " is not there; apt-get install dataset-fashion-mnist");
    return;
  }
  const auto train = open_dataset(root, Split::train), val = open_dataset(root, Split::val);
  CHECK(train->size() == 60000);
  CHECK(val->size() == 10000);
  CHECK(train->class_names()[9] == "Ankle boot");
  CHECK(train->label(0) == 9);
  CHECK(image_of(*val, 9999).width == 28);
}
