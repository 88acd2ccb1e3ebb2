#include "data/dataset_tar.h"

#include <unistd.h>

#include <algorithm>

#include "data/labelled_images.h"
#include "data/loader.h"
#include "io/tar.h"
#include "tests/data/images.h"
#include "tests/support/files.h"
#include "tests/support/log.h"
#include "tests/support/process.h"

using namespace sg;
using namespace sg::data;
using test::contains, test::put;
namespace fs = std::filesystem;

namespace {

using Files = std::vector<std::pair<std::string, std::string>>;

void put_shard(const fs::path& path, const Files& files) {
  std::string all;
  for (const auto& [name, bytes] : files)
    all += tar_header(name, bytes.size()) + bytes + tar_padding(bytes.size());
  fs::create_directories(path.parent_path());
  put(path, all + tar_end());
}

std::string png(int i) { return test::text(test::png(test::scene(8 + i % 5, 9, uint64_t(i)))); }

// `count` samples of classes 0 to 2 in turn, from number `first` on.
void put_numbered(const fs::path& path, int first, int count) {
  Files files;
  for (int i = first; i < first + count; ++i) {
    files.emplace_back(fmt::format("{:06}.png", i), png(i));
    files.emplace_back(fmt::format("{:06}.cls", i), std::to_string(i % 3));
  }
  put_shard(path, files);
}

std::string data_error(const std::function<void()>& f) { return test::error_of(ExitCode::data, f); }

TarDataset open_shards(const fs::path& folder, const ClassNames& classes = {},
                       const fs::path& cache = {}) {
  return TarDataset(find_shards(folder.string()), classes, ClassOrder::name, cache);
}

struct Seen {
  std::vector<std::vector<uint8_t>> images;
  std::vector<int64_t> samples;
  bool operator==(const Seen&) const = default;
};

}  // namespace

TEST_CASE("shards: images, labels of every kind, names, and what is left out") {
  const test::TemporaryFolder dir;
  put_shard(dir / "a.tar", {{"x/1.PNG", png(1)},
                            {"x/1.cls", "2\n"},
                            {"x/1.json", "{\"label\": 0, \"caption\": \"a cat\"}"},
                            {"x/1.txt", "a cat"},
                            {"x/2.json", "{\"label\": 1}"},
                            {"x/2.png", png(2)},
                            {"x/3.png", png(3)},
                            {"x/3.seg.png", png(4)},
                            {"x/3.json", "{\"cls\": \"007\"}"},
                            {"x/4.png", png(4)},
                            {"y/4.cls", "1"},
                            {"y/5.json", "[1]"}});
  put_shard(dir / "b.tar", {{"5.json", "{\"label\": 0}"}, {"5.png", png(5)}});
  const TarDataset d = open_shards(dir.path());
  REQUIRE(d.size() == 4);
  CHECK(d.label(0) == 2);
  CHECK(d.label(1) == 1);
  CHECK(d.label(2) == 7);
  CHECK(d.label(3) == 0);
  CHECK(d.num_classes() == 8);
  CHECK(d.class_names()[7] == "7");
  CHECK(d.key(0) == "x/1.PNG");
  CHECK(d.name(3) == (dir / "b.tar/5.png").string());
  CHECK(d.shard_ends() == std::vector<int64_t>{3, 4});
  std::vector<uint8_t> buffer;
  for (const auto& [i, image] : {std::pair{0, 1}, {1, 2}, {2, 3}, {3, 5}}) {
    Image found;
    d.open(i, buffer)->read(found);
    CHECK(test::text(buffer) == png(image));
    CHECK(found.pixels == test::scene(8 + image % 5, 9, uint64_t(image)).pixels);
  }
  std::string remarks;
  for (const std::string& remark : d.remarks()) remarks += remark + "\n";
  CHECK(contains(remarks, "left out: 1 images without a .cls"));
  CHECK(contains(remarks, "left out: 1 .cls, 1 .json, 1 .png, 1 .txt"));
  CHECK(contains(remarks, "no images of 4 of 8 classes: 3, 4, 5, 6"));
}

TEST_CASE("shards: what systems leave between the files of a sample is passed over") {
  const test::TemporaryFolder dir;
  put_shard(dir / "a.tar", {{"x/._1.png", "resource fork"},
                            {"x/1.png", png(1)},
                            {"x/._1.cls", "resource fork"},
                            {"__MACOSX/x/1.png", "resource fork"},
                            {"x/1.cls", "1"},
                            {".hidden/2.png", png(2)},
                            {".hidden/2.cls", "0"},
                            {"x/./3.png", png(3)},
                            {"x/./3.cls", "0"}});
  const TarDataset d = open_shards(dir.path());
  REQUIRE(d.size() == 2);
  CHECK(d.label(0) == 1);
  CHECK(d.key(1) == "x/./3.png");
  CHECK(d.remarks().empty());
}

TEST_CASE("shards: image and label that do not follow each other are an error, not left out") {
  const test::TemporaryFolder dir;
  put_shard(dir / "a.tar", {{"1.png", png(1)}, {"2.png", png(2)}, {"2.cls", "0"}, {"1.cls", "1"}});
  CHECK(
      contains(data_error([&] { open_shards(dir.path()); }), "a.tar: '1': image and label do not"));
  put_shard(dir / "a.tar",
            {{"1.json", "{}"}, {"2.png", png(2)}, {"2.cls", "0"}, {"1.png", png(1)}});
  CHECK(contains(data_error([&] { open_shards(dir.path()); }), "--sort=name"));
}

TEST_CASE("shards: compressed ones are refused by name, wherever they are found") {
  const test::TemporaryFolder dir;
  const auto refused = [&](const std::string& data, const DatasetRequest& request) {
    CHECK(
        contains(data_error([&] { open_dataset(data, Split::train, request); }), "not compressed"));
  };
  put(dir / "train-0.tar.gz", "");
  put_numbered(dir / "val-0.tar", 0, 3);
  refused(dir.path().string(), {});
  refused(dir.path().string(), {.train_split = "train-{0..0}.tar.gz"});
  refused((dir / "train-{0..0}.tgz").string(), {.val_split = "val-0.tar"});
  fs::create_directories(dir / "in/train");
  put(dir / "in/train/0.tgz", "");
  refused((dir / "in").string(), {.val_share = 0.5});
  // Beside what is read they may lie.
  put_numbered(dir / "train-0.tar", 0, 6);
  put(dir / "test.tar.gz", "");
  fs::remove(dir / "val-0.tar");
  CHECK(open_dataset(dir.path().string(), Split::train, {.val_share = 0.5})->size() == 3);
}

TEST_CASE("shards: where .cls has the label .json may be anything, whichever comes first") {
  const test::TemporaryFolder dir;
  put_shard(dir / "a.tar", {{"1.json", "[{\"bbox\": 1}]"},
                            {"1.png", png(1)},
                            {"1.cls",
                             "\xEF\xBB\xBF"
                             "1"},
                            {"2.cls", "0"},
                            {"2.json", "{\"label\": [1, 2]}"},
                            {"2.png", png(2)}});
  const TarDataset d = open_shards(dir.path());
  REQUIRE(d.size() == 2);
  CHECK(d.label(0) == 1);
  CHECK(d.label(1) == 0);
}

TEST_CASE("shards: names of classes, in classes.txt, in the labels, or asked for") {
  const test::TemporaryFolder dir;
  put_numbered(dir / "train/0.tar", 0, 6);
  put(dir / "classes.txt", "owl 1\ncat 0\nbig dog 2\n");
  const TarDataset named = open_shards(dir / "train");
  CHECK(named.class_names() == ClassNames{"cat", "owl", "big dog"});
  CHECK(named.label(1) == 1);
  // By name into an order that is asked for.
  const TarDataset asked = open_shards(dir / "train", {"big dog", "cat", "newt", "owl"});
  CHECK(asked.label(0) == 1);
  CHECK(asked.label(1) == 3);
  CHECK(asked.label(2) == 0);
  CHECK(contains(data_error([&] {
                   open_shards(dir / "train", {"big dog", "cat"});
                 }),
                 "does not have: owl"));
  put(dir / "classes.txt", "cat\nowl\n");
  CHECK(contains(data_error([&] { open_shards(dir / "train"); }), "label 2: expected 0 to 1"));
  fs::remove(dir / "classes.txt");
  CHECK(open_shards(dir / "train").class_names() == ClassNames{"0", "1", "2"});
  CHECK(open_shards(dir / "train", {"a", "b", "c"}).label(2) == 2);
  // As the training set named them, where one of its labels is no number.
  CHECK(open_shards(dir / "train", {"0", "1", "1b", "2"}).label(2) == 3);

  put_shard(dir / "names/0.tar", {{"1.png", png(1)},
                                  {"1.cls", "dog"},
                                  {"2.png", png(2)},
                                  {"2.json", "{\"class_name\": \"caf\u00e9\"}"},
                                  {"3.png", png(3)},
                                  {"3.cls", "dog"}});
  const TarDataset texts = open_shards(dir / "names");
  CHECK(texts.class_names() == ClassNames{"caf\xc3\xa9", "dog"});
  CHECK(texts.label(0) == 1);
  CHECK(texts.label(1) == 0);
  CHECK(contains(data_error([&] { open_shards(dir / "names", {"dog"}); }), "caf\xc3\xa9"));
}

TEST_CASE("shards that hold no samples, or two images for one, are errors that name them") {
  const test::TemporaryFolder dir;
  const auto error = [&](const Files& files) {
    put_shard(dir / "0.tar", files);
    const std::string text = data_error([&] { open_shards(dir.path()); });
    CHECK(contains(text, (dir / "0.tar").string()));
    return text;
  };
  CHECK(contains(error({{"a.png", png(0)}, {"b.txt", ""}}),
                 "found 1 images without; other files: 1 .txt"));
  CHECK(contains(error({{"a.png", png(0)}, {"a.jpg", png(0)}, {"a.cls", "1"}}), "second image"));
  CHECK(contains(error({{"a.png", png(0)}, {"a.cls", " "}}), "a.cls: expected a whole number"));
  CHECK(contains(error({{"a.png", png(0)}, {"a.json", "{"}}), "a.json"));
  CHECK(contains(error({{"a.png", png(0)}, {"a.cls", "0\n1"}}), "a.cls: expected a label of one"));
  CHECK(contains(error({{"a.png", png(0)}, {"a.json", "{\"cls\": \"a\\nb\"}"}}), "one line"));
  CHECK(contains(error({{"a.png", png(0)}, {"a.json", "{\"label\": 1.5}"}}), "found 1.5"));
  CHECK(contains(error({{"a.png", png(0)}, {"a.cls", "-1"}}), "label -1"));
  CHECK(contains(error({{"a.png", png(0)}, {"a.cls", "99999999999"}}), "label 99999999999"));
  put(dir / "0.tar", tar_header("a.png", 100) + "cut");
  CHECK(contains(data_error([&] { open_shards(dir.path()); }), "0.tar: at byte 0: 'a.png'"));
}

TEST_CASE("the index of shards is kept, and made again for those that changed") {
  const test::Log log;
  const test::TemporaryFolder dir;
  put_numbered(dir / "0.tar", 0, 4), put_numbered(dir / "1.tar", 4, 5);
  CHECK(open_shards(dir.path()).size() == 9);
  const fs::path index = dir / kShardIndexFile;
  REQUIRE(fs::exists(index));
  const std::string first = read_file(index);
  // Told by a label that is changed behind its back, with size and time as they were.
  const auto relabel = [&](const fs::path& shard, bool keep_time) {
    const auto time = fs::last_write_time(shard);
    std::string bytes = read_file(shard);
    const size_t at = bytes.find(".cls") - 6 + kTarBlock;
    bytes[at] = '2';
    std::ofstream(shard, std::ios::binary) << bytes;
    if (keep_time) fs::last_write_time(shard, time);
  };
  relabel(dir / "0.tar", true);
  CHECK(open_shards(dir.path()).label(0) == 0);
  CHECK(read_file(index) == first);
  fs::last_write_time(dir / "0.tar", fs::last_write_time(dir / "0.tar") + std::chrono::seconds(1));
  CHECK(open_shards(dir.path()).label(0) == 2);
  CHECK(read_file(index) != first);
  // Some shards alone; the file still knows the others.
  const std::string all = read_file(index);
  CHECK(TarDataset(find_shards((dir / "1.tar").string())).size() == 5);
  CHECK(read_file(index) == all);
  put_numbered(dir / "2.tar", 9, 1);
  CHECK(TarDataset(find_shards((dir / "2.tar").string())).size() == 1);
  relabel(dir / "1.tar", true);
  CHECK(open_shards(dir.path()).label(4) == 1);
  CHECK(log.text().empty());
}

TEST_CASE("an index that is damaged is made again, one that is not ours is left alone") {
  const test::TemporaryFolder dir;
  put_numbered(dir / "0.tar", 0, 4);
  open_shards(dir.path());
  const fs::path index = dir / kShardIndexFile;
  const std::string whole = read_file(index);
  for (size_t i = 0; i < whole.size(); i += 7) {
    const test::Log log;
    std::string damaged = whole;
    damaged[i] ^= 1;
    put(index, damaged);
    CHECK(open_shards(dir.path()).size() == 4);
    CHECK(contains(log.text(), "made again"));
    if (i < 8 || i > 20) CHECK(read_file(index) == whole);
  }
  for (size_t n = 21; n < whole.size(); n += 5) {
    const test::Log log;
    put(index, whole.substr(0, n));
    CHECK(open_shards(dir.path()).size() == 4);
    CHECK(read_file(index) == whole);
  }
  const test::Log log;
  put(index, "");  // as a loss of power may leave it
  CHECK(open_shards(dir.path()).size() == 4);
  CHECK(read_file(index) == whole);
  put(index, "my notes");
  CHECK(open_shards(dir.path()).size() == 4);
  CHECK(read_file(index) == "my notes");
  CHECK(contains(log.text(), "is no index of shards"));
}

TEST_CASE("where shards are read-only their index lies in the cache") {
  const test::TemporaryFolder dir;
  put_numbered(dir / "data/0.tar", 0, 4);
  const int code = test::wait_for(test::start_child([&] {
    const test::Log log;
    if (!test::mount_disk(dir / "data", 1 << 20)) return test::kNoMount;
    put_numbered(dir / "data/0.tar", 0, 4);
    if (!test::make_read_only(dir / "data")) return test::kNoMount;
    for (int i = 0; i < 2; ++i)
      if (open_shards(dir / "data", {}, dir / "cache/new").size() != 4) return 1;
    const bool kept = !fs::is_empty(dir / "cache/new") && log.text().empty();
    if (open_shards(dir / "data").size() != 4) return 2;  // no cache: it goes on without
    return kept && contains(log.text(), "cannot be kept") ? 0 : 3;
  }));
  if (code == test::kNoMount)
    test::skip("no right to mount a file system");
  else
    CHECK(code == 0);
}

TEST_CASE("a shard that changes during a run is a broken sample, not another image") {
  const test::TemporaryFolder dir;
  put_numbered(dir / "0.tar", 0, 4);
  const TarDataset d = open_shards(dir.path());
  std::vector<uint8_t> buffer;
  d.prefetch(3);
  CHECK(d.open(3, buffer));
  std::string bytes = read_file(dir / "0.tar");
  put(dir / "0.tar", bytes.substr(512) + bytes.substr(0, 512));
  CHECK(contains(data_error([&] { d.open(1, buffer); }), "000001.png: the shard has changed"));
  // Packed again in another order: as long, and headers lie where they lay.
  std::string other = bytes;
  other.replace(bytes.find("000001.png"), kTarBlock, tar_header("000009.png", png(1).size()));
  put(dir / "0.tar", other);
  CHECK(contains(data_error([&] { d.open(1, buffer); }), "has changed"));
  // Copied again.
  put(dir / "0.tar", bytes);
  CHECK(d.open(1, buffer));
  put(dir / "0.tar", bytes + "x");
  CHECK(contains(data_error([&] { d.open(1, buffer); }), "has changed"));
  fs::remove(dir / "0.tar");
  CHECK(contains(data_error([&] { d.open(1, buffer); }), "cannot be opened"));
  d.prefetch(3);
}

TEST_CASE("patterns of shards: ranges, choices and wildcards") {
  const test::TemporaryFolder dir;
  for (int i = 8; i < 12; ++i) put_numbered(dir / fmt::format("a-{:03}.tar", i), i, 1);
  put_numbered(dir / "b.tar", 20, 1);
  const std::string root = dir.path().string() + "/";
  const auto names = [&](const std::string& pattern) {
    std::string all;
    for (const fs::path& path : find_shards(root + pattern)) all += path.stem().string() + " ";
    return all;
  };
  CHECK(names("a-{008..010}.tar") == "a-008 a-009 a-010 ");
  CHECK(names("{a-011,b}.tar") == "a-011 b ");
  CHECK(names("a-0{10,11,08}.tar") == "a-010 a-011 a-008 ");
  CHECK(names("{a,b}*.tar") == "a-008 a-009 a-010 a-011 b ");
  CHECK(names("?.tar") == "b ");
  CHECK(names("b").empty());
  CHECK(contains(data_error([&] { names("a-0{0,1}{8..9}.tar"); }), "a-018.tar, and 1 more"));
  CHECK(contains(data_error([&] { names("c*.tar"); }), "no such shard"));
  const auto usage = [&](const std::string& pattern) {
    return test::error_of(ExitCode::usage, [&] { names(pattern); });
  };
  CHECK(contains(usage("{9..8}.tar"), "a range like {000..099}"));
  CHECK(contains(usage("{0..9999999999}.tar"), "a range like"));
  CHECK(contains(usage("{0..9999}{0..9999}.tar"), "more than"));
  CHECK(contains(usage("{0..9.tar"), "without its"));
  CHECK(contains(usage("{b,b}.tar"), "twice"));
  CHECK(contains(usage("{a-{008,009},b}.tar"), "within another"));
  // Where the program was started.
  CHECK(test::wait_for(test::start_child([&] {
          fs::current_path(dir.path());
          return int(
              TarDataset(find_shards("a-*.tar"), {}, ClassOrder::name, dir / "cache").size());
        })) == 4);
}

TEST_CASE("splits of shards: in DIR by name, in folders, by patterns, alone, or a share held out") {
  const test::TemporaryFolder dir;
  const auto size = [&](const std::string& data, Split split, const DatasetRequest& r = {}) {
    return open_dataset((dir / data).string(), split, r)->size();
  };
  put_numbered(dir / "flat/train-000.tar", 0, 4), put_numbered(dir / "flat/train-001.tar", 4, 4);
  put_numbered(dir / "flat/val-000.tar", 8, 3);
  CHECK(size("flat", Split::train) == 8);
  CHECK(size("flat", Split::val) == 3);
  put_numbered(dir / "timm/imagenet-train-0000.tar", 0, 5);
  put_numbered(dir / "timm/imagenet-validation-00.tar", 5, 2);
  CHECK(size("timm", Split::train) == 5);
  CHECK(size("timm", Split::val) == 2);
  put_numbered(dir / "folders/train/x.tar", 0, 6), put_numbered(dir / "folders/val/x.tar", 6, 3);
  CHECK(size("folders", Split::train) == 6);
  CHECK(size("folders", Split::val) == 3);
  CHECK(has_validation_set((dir / "folders").string(), {}));
  CHECK(list_classes((dir / "folders").string(), {}).empty());
  put(dir / "folders/classes.txt", "a\nb\nc\n");
  CHECK(list_classes((dir / "folders").string(), {}) == ClassNames{"a", "b", "c"});
  const DatasetRequest patterns{.train_split = "imagenet-train-{0000..0000}.tar",
                                .val_split = "imagenet-val*.tar"};
  CHECK(size("timm", Split::train, patterns) == 5);
  CHECK(size("timm", Split::val, patterns) == 2);
  const std::string train = "flat/train-{000..001}.tar";
  CHECK(size(train, Split::train, {.val_split = "val-000.tar"}) == 8);
  CHECK(size(train, Split::val, {.val_split = "val-000.tar"}) == 3);
  CHECK(size(train, Split::val) == 8);  // evaluation of just these
  CHECK(contains(data_error([&] { size(train, Split::train); }), "--val-share"));
  CHECK(contains(data_error([&] { size("flat/train-{000..007}.tar", Split::val); }),
                 "train-002.tar, and 5 more"));
  const DatasetRequest share{.val_share = 0.25};
  const auto held = open_dataset((dir / train).string(), Split::val, share),
             rest = open_dataset((dir / train).string(), Split::train, share);
  CHECK(held->size() + rest->size() == 8);
  CHECK(held->size() == 3);
  CHECK(rest->shard_ends().size() == 2);
  CHECK(rest->shard_ends().back() == rest->size());
  // A folder's name stands for itself.
  put_numbered(dir / "odd [1] {0..9}*/train-0.tar", 0, 4);
  put_numbered(dir / "odd [1] {0..9}*/val-0.tar", 4, 3);
  CHECK(size("odd [1] {0..9}*", Split::val) == 3);
  CHECK(size("odd [1] {0..9}*/{train,val}-?.tar", Split::val) == 7);
  fs::create_directories(dir / "folders/train/@eaDir");  // a system's own, no class
  CHECK(size("folders", Split::train) == 6);
  // Classes and shards side by side: these are classes, as before.
  fs::create_directories(dir / "mixed/train/cat");
  put(dir / "mixed/train/cat/1.png", png(1));
  put_numbered(dir / "mixed/train/x.tar", 0, 4);
  CHECK(size("mixed", Split::train) == 1);
}

TEST_CASE("training on shards: each sample once, the same for any workers, resumed at any batch") {
  const test::TemporaryFolder dir;
  for (int s = 0; s < 5; ++s) put_numbered(dir / fmt::format("{}.tar", s), s * 9, 9);
  const auto d = std::make_shared<TarDataset>(find_shards(dir.path().string()), ClassNames{},
                                              ClassOrder::name, fs::path());
  LoaderConfig config;
  config.batch_size = 4;
  const auto run = [&](int workers, int64_t epoch, int64_t first = 0) {
    config.workers = workers;
    Loader loader(std::make_shared<LabelledImages>(d, TransformConfig{.img_size = 8}), config);
    loader.start_epoch(epoch, first);
    Seen seen;
    for (Batch batch; loader.next(batch);) {
      seen.images.push_back(to_vector<uint8_t>(batch.tensors[LabelledImages::kImages]));
      seen.samples.insert(seen.samples.end(), batch.indices.begin(), batch.indices.end());
      const auto labels = to_vector<int32_t>(batch.tensors[LabelledImages::kLabels]);
      for (size_t i = 0; i < labels.size(); ++i) CHECK(labels[i] == batch.indices[i] % 3);
    }
    return seen;
  };
  const auto all = run(0, 2);
  CHECK(all.images.size() == 11);
  auto sorted = all.samples;
  std::ranges::sort(sorted);
  CHECK(std::ranges::adjacent_find(sorted) == sorted.end());
  CHECK(run(3, 2) == all);
  CHECK_FALSE(run(1, 3) == all);
  for (const int64_t k : {1, 4, 11}) {
    const auto part = run(2, 2, k);
    CHECK(std::equal(part.images.begin(), part.images.end(), all.images.begin() + k));
    CHECK(part.images.size() == size_t(11 - k));
  }
  // Of 45, whole steps are used.
  config.batch_size = 5;
  for (const auto& [ranks, used] : {std::pair{1, 45u}, {2, 40u}, {3, 45u}}) {
    std::vector<int64_t> of_all;
    config.ranks = ranks;
    for (config.rank = 0; config.rank < ranks; ++config.rank) {
      const auto samples = run(config.rank, 1).samples;
      of_all.insert(of_all.end(), samples.begin(), samples.end());
    }
    CHECK(of_all.size() == used);
    std::ranges::sort(of_all);
    CHECK(std::ranges::adjacent_find(of_all) == of_all.end());
  }
}
