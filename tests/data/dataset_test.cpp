#include "data/dataset.h"

#include <zlib.h>

#include <filesystem>
#include <set>

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
      data_error([&] { open_dataset(dir.path().string(), Split::val, {.classes = {"zebra"}}); });
  CHECK(contains(error, "does not have: ant"));
  // A folder of classes itself, for evaluation.
  CHECK(open_dataset((dir / "train").string(), Split::val)->size() == 3);
}

TEST_CASE("files that are left out are counted by extension, junk is not told") {
  const test::TemporaryFolder dir;
  for (const char* f : {"cat/sub", "dog", "__MACOSX/cat", ".ipynb_checkpoints"})
    fs::create_directories(dir / f);
  for (const char* f :
       {"cat/a.WebP", "cat/b.tif", "cat/sub/c.jfif", "dog/a.avif", "dog/b.TIFF", "cat/x.txt",
        "cat/y.TXT", "cat/sub/z.svg", "dog/README", "dog/Thumbs.db", "dog/desktop.ini",
        "dog/.DS_Store", "dog/._a.avif", "__MACOSX/cat/._a.jpg", "loose.png", "list.csv"})
    put(dir / f, "x");
  const FolderDataset d(dir.path().string());
  CHECK(d.class_names() == ClassNames{"cat", "dog"});
  CHECK(d.size() == 5);
  REQUIRE(d.remarks().size() == 2);
  CHECK(contains(d.remarks()[0], ": left out: 2 .txt, 1 .csv, 1 .svg, 1 without extension"));
  CHECK_FALSE(contains(d.remarks()[0], ".ini"));
  CHECK(contains(d.remarks()[1], ": left out: 1 .png beside the class folders"));
}

TEST_CASE("a validation set may lack classes, or have them empty; it may have no other") {
  const test::TemporaryFolder dir;
  for (const char* f : {"train/a", "train/b", "train/c", "val/a", "val/c", "other/a", "other/x"})
    fs::create_directories(dir / f);
  for (const char* f : {"train/a/1.png", "train/b/1.png", "train/c/1.png", "val/a/1.png",
                        "val/c/1.png", "val/c/2.png", "other/a/1.png", "other/x/1.png"})
    put(dir / f, "x");
  const std::string root = dir.path().string();
  const ClassNames classes = open_dataset(root, Split::train)->class_names();
  for (int i = 0; i < 2; ++i) {
    const auto val = open_dataset(root, Split::val, {.classes = classes});
    REQUIRE(val->size() == 3);
    CHECK(val->class_names() == ClassNames{"a", "b", "c"});
    CHECK(val->label(0) == 0);
    CHECK(val->label(2) == 2);
    REQUIRE(val->remarks().size() == 1);
    CHECK(contains(val->remarks()[0], "no images of 1 of 3 classes: b"));
    fs::create_directories(dir / "val/b");  // the second time it is there and empty
  }
  const DatasetRequest other{.classes = classes, .val_split = "other"};
  CHECK(contains(data_error([&] { open_dataset(root, Split::val, other); }), "not have: x"));
}

TEST_CASE("classes that differ in their Unicode form alone are named") {
  const test::TemporaryFolder dir;
  const std::string nfc = "caf\xc3\xa9", nfd = "cafe\xcc\x81";
  for (const std::string& f : {"train/" + nfc, "val/" + nfd, "both/" + nfc, "both/" + nfd}) {
    fs::create_directories(dir / f);
    put(dir / (f + "/1.png"), "x");
  }
  const std::string error =
      data_error([&] { open_dataset(dir.path().string(), Split::val, {.classes = {nfc}}); });
  CHECK(contains(error, "seem to be the same"));
  const FolderDataset both((dir / "both").string());
  REQUIRE(both.remarks().size() == 1);
  CHECK(contains(both.remarks()[0], "here they are two classes"));
}

TEST_CASE("splits: names, and their usual synonyms") {
  const test::TemporaryFolder dir;
  for (const char* f : {"training/a", "validation/a", "held-out/a"}) {
    fs::create_directories(dir / f);
    put(dir / (std::string(f) + "/1.png"), "x");
  }
  const std::string root = dir.path().string();
  CHECK(contains(open_dataset(root, Split::train)->name(0), "/training/"));
  CHECK(contains(open_dataset(root, Split::val)->name(0), "/validation/"));
  CHECK(contains(open_dataset(root, Split::val, {.val_split = "valid"})->name(0), "/validation/"));
  CHECK(contains(data_error([&] { open_dataset(root, Split::val, {.val_split = "test"}); }),
                 "'test'"));
  const DatasetRequest given{.train_split = "held-out", .val_split = "training"};
  CHECK(contains(open_dataset(root, Split::train, given)->name(0), "/held-out/"));
  CHECK(contains(open_dataset(root, Split::val, given)->name(0), "/training/"));
  const auto error = data_error([&] { open_dataset(root, Split::val, {.val_split = "none"}); });
  CHECK(contains(error, "'none'"));
  CHECK(contains(error, "--val-split"));
  CHECK(contains(error, "--val-share"));
}

TEST_CASE("a share of each class is held out by the seed, of train/ or of the classes themselves") {
  const test::TemporaryFolder dir;
  for (const auto& [name, count] : {std::pair{"a", 20}, {"b", 10}, {"c", 2}, {"d", 1}})
    for (const char* root : {"flat", "split/train"}) {
      fs::create_directories(dir / root / name);
      for (int i = 0; i < count; ++i) put(dir / root / name / fmt::format("{}.png", i), "x");
    }
  for (const char* root : {"flat", "split"}) {
    const std::string path = (dir / root).string();
    DatasetRequest request{.val_share = 0.2, .seed = 7};
    const auto names = [&](Split split) {
      const auto d = open_dataset(path, split, request);
      std::vector<std::string> all;
      for (int64_t i = 0; i < d->size(); ++i) all.push_back(d->name(i));
      return all;
    };
    const auto train = names(Split::train), val = names(Split::val);
    CHECK(train.size() == 16 + 8 + 1 + 1);
    CHECK(val.size() == 4 + 2 + 1);
    std::set<std::string> both(train.begin(), train.end());
    both.insert(val.begin(), val.end());
    CHECK(both.size() == 33);
    CHECK(names(Split::val) == val);
    request.seed = 8;
    CHECK(names(Split::val) != val);
    const auto d = open_dataset(path, Split::val, request);
    CHECK(d->num_classes() == 4);
    CHECK(d->label(0) == 0);
    CHECK(d->label(6) == 2);
    CHECK(contains(d->remarks()[0], "7 of the 33 training images"));
  }
  CHECK(contains(data_error([&] { open_dataset((dir / "flat").string(), Split::train); }),
                 "--val-share"));
  fs::create_directories(dir / "split/val");
  CHECK(contains(test::error_of(ExitCode::usage,
                                [&] {
                                  open_dataset((dir / "split").string(), Split::train,
                                               {.val_share = 0.5});
                                }),
                 "leave the flag out"));
}

TEST_CASE("what is held out hardly changes when images come or go, or the data set moves") {
  const test::TemporaryFolder dir;
  const auto fill = [&](const std::string& root, int count) {
    for (const char* name : {"a", "b"}) {
      fs::create_directories(dir / root / name);
      for (int i = 0; i < count; ++i) put(dir / root / name / fmt::format("{}.png", i), "x");
    }
  };
  const auto held = [&](const std::string& root) {
    const auto d = open_dataset((dir / root).string(), Split::val, {.val_share = 0.25, .seed = 7});
    std::set<std::string> all;
    for (int64_t i = 0; i < d->size(); ++i)
      all.insert(d->class_names()[size_t(d->label(i))] + "/" + d->key(i));
    return all;
  };
  fill("here", 40), fill("there", 40);
  const auto before = held("here");
  REQUIRE(before.size() == 20);
  CHECK(held("there") == before);
  fs::create_directories(dir / "here/0");  // becomes the first class
  for (const char* f : {"here/0/1.png", "here/0/2.png", "here/a/40.png", "here/b/00.png"})
    put(dir / f, "x");
  const auto after = held("here");
  int kept = 0;
  for (const std::string& name : before) kept += after.contains(name);
  CHECK(kept >= 18);  // one of each class may have given way to the image that came
}

TEST_CASE("names of folders and files are bytes; those of classes are written escaped") {
  const test::TemporaryFolder dir;
  for (const char* f : {"caf\\xe9", "caf\xe9", "caf\xc3\xa9"}) {
    fs::create_directories(dir / f);
    put(dir / (std::string(f) + "/\xe9t\xe9.png"), test::text(test::png(test::scene(4, 4))));
  }
  const FolderDataset d(dir.path().string());
  CHECK(d.class_names() == ClassNames{"caf\\x5cxe9", "caf\xc3\xa9", "caf\\xe9"});
  for (int64_t i = 0; i < 3; ++i) CHECK(image_of(d, i).height == 4);
  CHECK(FolderDataset(dir.path().string(), d.class_names()).size() == 3);
}

TEST_CASE("folders that cannot be trained on are refused with what to do") {
  const test::TemporaryFolder dir;
  const std::string root = dir.path().string();
  const auto open = [&](Split s) { return data_error([&] { open_dataset(root, s); }); };
  CHECK(contains(data_error([&] { open_dataset(root + "/none", Split::train); }), "--data"));
  CHECK(contains(open(Split::train), "'train'"));
  CHECK(contains(open(Split::val), "sub-folder per class"));
  fs::create_directories(dir / "train");
  CHECK(contains(open(Split::train), "sub-folder per class"));
  CHECK(contains(open(Split::val), "'validation'"));
  fs::create_directories(dir / "train/cat");
  fs::create_directories(dir / "train/dog");
  put(dir / "train/cat/a.png", "x");
  put(dir / "train/dog/a.svg", "x");
  const std::string empty_class = open(Split::train);
  CHECK(contains(empty_class, "in 1 of 2 classes: dog"));
  CHECK(contains(empty_class, "left out: 1 .svg"));
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
  const auto val = open_dataset(dir.path().string(), Split::val, {.classes = train->class_names()});
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
