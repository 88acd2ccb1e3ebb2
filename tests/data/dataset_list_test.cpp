#include "data/dataset_list.h"

#include "tests/data/images.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;
using test::contains;
using test::put;
namespace fs = std::filesystem;

namespace {

struct Listed {
  ClassNames classes;
  std::vector<std::string> names;
  std::vector<int> labels;
};

Listed read_list(const std::string& text, const ClassNames& classes = {},
                 ClassOrder order = ClassOrder::name) {
  const test::TemporaryFolder folder;
  put(folder / "list.txt", text);
  const ListDataset d((folder / "list.txt").string(), "/data", classes, order);
  Listed listed{d.class_names(), {}, {}};
  for (int64_t i = 0; i < d.size(); ++i)
    listed.names.push_back(d.name(i)), listed.labels.push_back(d.label(i));
  return listed;
}

std::string refused(const std::string& text, const ClassNames& classes = {}) {
  return test::error_of(ExitCode::data, [&] { read_list(text, classes); });
}

}  // namespace

TEST_CASE("a list: spaces or tabs, names with spaces, comments, blank lines, any line end") {
  const Listed l = read_list(
      "\xEF\xBB\xBF# made by hand\r\n"
      "a.png 1\r\n"
      "\n \t \n"
      "  sub/b c.png  \t 0  \n"
      "/elsewhere/d.png\t1\n"
      "#e.png 7\n"
      "../f.png 2");
  CHECK(l.names == std::vector<std::string>{"/data/a.png", "/data/sub/b c.png", "/elsewhere/d.png",
                                            "/data/../f.png"});
  CHECK(l.labels == std::vector<int>{1, 0, 1, 2});
  CHECK(l.classes == ClassNames{"0", "1", "2"});
}

TEST_CASE("labels of a list: indices, or names of classes in their order") {
  CHECK(read_list("a 10\nb 2\nc x\n").classes == ClassNames{"10", "2", "x"});
  CHECK(read_list("a 10\nb 2\nc x\n", {}, ClassOrder::natural).classes ==
        ClassNames{"2", "10", "x"});
  const Listed named = read_list("a.png\tsea lion\nb c.png\tant\nd\tsea lion\n");
  CHECK(named.classes == ClassNames{"ant", "sea lion"});
  CHECK(named.labels == std::vector<int>{1, 0, 1});
  CHECK(named.names[1] == "/data/b c.png");
  CHECK(read_list("a caf\xe9\n").classes == ClassNames{"caf\\xe9"});
  // More than nine: by value, not by name.
  std::string many;
  for (int i = 0; i < 12; ++i) many += fmt::format("{}.png {}\n", i, i);
  CHECK(read_list(many).labels[10] == 10);
  CHECK(read_list(many).classes[10] == "10");
  CHECK(read_list("a 00\nb 01\n").classes == ClassNames{"0", "1"});

  // Of classes that are known: names, or indices where the names are no numbers.
  CHECK(read_list("a dog\nb 0\nc cat\n", {"cat", "dog"}).labels == std::vector<int>{1, 0, 0});
  CHECK(read_list("a 10\nb 2\n", {"10", "2", "7"}).labels == std::vector<int>{0, 1});
  CHECK(read_list("a 010\n", {"10", "2"}).labels == std::vector<int>{0});
}

TEST_CASE("a list that is none is refused with its line") {
  CHECK(contains(refused("a 0\n\nb.png\n"), "list.txt: line 3: expected a path"));
  CHECK(contains(refused("a 0\nb -1\n"), "line 2: expected the index of a class from 0"));
  CHECK(contains(refused("a 99999999999\nb 0"), "line 1: expected the index"));
  CHECK(contains(refused("# nothing\n"), "found none"));
  CHECK(contains(refused(""), "found none"));
  CHECK(contains(refused(std::string("a\0b 1", 5)), "no text"));
  const std::string gap = refused("a 0\nb 3\n");
  CHECK(contains(gap, "all of 0 to 3, 2 do not occur: 1, 2"));
  CHECK(contains(gap, "--class-map"));
  CHECK(contains(refused("a 1\nb 2\n"), "1 do not occur: 0"));
  CHECK(contains(refused("path label\na 0\nb 1\n"),
                 "line 1: label 'label', and all others are numbers"));
  const std::string unknown = refused("a cat\nb owl\nc owl\n", {"cat", "dog"});
  CHECK(
      contains(unknown, "line 2: label 'owl': expected one of 2 classes, cat, dog, or an index "));
  CHECK(contains(refused("a 2\n", {"cat", "dog"}), "from 0 to 1"));
  // An index beside classes that have numbers for names would be a guess.
  CHECK(contains(refused("a 0\n", {"1", "2"}), "label '0': expected one of 2 classes, 1, 2"));
  CHECK(!contains(refused("a 0\n", {"1", "2"}), "index"));
  CHECK(
      contains(test::error_of(ExitCode::data, [] { ListDataset("/none.txt", "/"); }), "none.txt"));
}

TEST_CASE("splits that are lists, in the folder of the data or elsewhere") {
  const test::TemporaryFolder dir;
  const fs::path data = dir / "data";
  fs::create_directories(data / "images");
  for (const char* name : {"1.png", "2.png", "3.png", "4.png"})
    put(data / "images" / name, test::text(test::png(test::scene(4, 5))));
  put(data / "train.txt", "images/1.png cat\nimages/2.png dog\nimages/3.png dog\nimages/x.png cat");
  put(dir / "val.txt", "images/4.png 1\nimages/5.png 1\n");
  DatasetRequest request{.train_split = "train.txt", .val_split = (dir / "val.txt").string()};
  const auto train = open_dataset(data.string(), Split::train, request);
  CHECK(train->class_names() == ClassNames{"cat", "dog"});
  CHECK(train->size() == 4);
  std::vector<uint8_t> buffer;
  CHECK(train->open(1, buffer)->width() == 5);
  CHECK(train->remarks().empty());
  CHECK(list_classes(data.string(), request) == ClassNames{"cat", "dog"});
  CHECK(has_validation_set(data.string(), request));
  // A file that is not there is a broken image.
  CHECK(contains(test::error_of(ExitCode::data, [&] { train->open(3, buffer); }), "images/x.png"));

  request.classes = train->class_names();
  const auto val = open_dataset(data.string(), Split::val, request);
  CHECK(val->label(0) == 1);
  REQUIRE(val->remarks().size() == 1);
  CHECK(contains(val->remarks()[0], "val.txt: no images of 1 of 2 classes: cat"));

  // What is held out of a list does not depend on where it lies.
  request = {.train_split = "train.txt", .val_share = 0.5};
  CHECK(open_dataset(data.string(), Split::train, request)->size() == 2);
  CHECK(open_dataset(data.string(), Split::val, request)->size() == 2);
  // A file that happens to have a usual name is no list.
  fs::create_directories(dir / "flat/cat");
  put(dir / "flat/cat/1.png", ""), put(dir / "flat/train", ""), put(dir / "flat/val", "");
  CHECK(open_dataset((dir / "flat").string(), Split::val)->size() == 1);
  request.train_split = "none.txt", request.val_share = 0;
  const std::string error =
      test::error_of(ExitCode::data, [&] { open_dataset(data.string(), Split::train, request); });
  CHECK(contains(error, "'none.txt'"));
  CHECK(contains(error, "'path label' lines"));
}
