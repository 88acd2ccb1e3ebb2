#include <signal.h>

#include <algorithm>
#include <set>

#include "data/dataset_tar.h"
#include "data/jpeg_write.h"
#include "data/resize.h"
#include "tests/tools/runs.h"

namespace sg {
namespace {

using namespace test;
namespace fs = std::filesystem;

// train/ with 40 images and val/ with 12, of classes "1" and "10", sizes of all kinds.
struct Folder : TemporaryFolder {
  Folder() {
    for (const auto& [split, count] : {std::pair{"train", 20}, {"val", 6}})
      for (const char* name : {"1", "10"}) {
        fs::create_directories(*this / "in" / split / name);
        for (int i = 0; i < count; ++i)
          put(*this / "in" / split / name / fmt::format("a.{}.PNG", i),
              png_image(28 + i, 28 + 3 * i % 7));
      }
  }
  Ran pack(const std::string& out, const std::string& flags = "") const {
    return run_program(fmt::format("sgpack {} {} --workers 2 {}", (*this / "in").string(),
                                   (*this / out).string(), flags));
  }
  std::string file(const std::string& name) const { return read_file(*this / name); }
};

// The bytes of all images, each with the name of its class, in order.
std::vector<std::string> content_of(const data::Dataset& dataset) {
  std::vector<std::string> content;
  std::vector<uint8_t> bytes;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    dataset.open(i, bytes);
    content.push_back(dataset.class_names()[size_t(dataset.label(i))] + ": " +
                      std::string(bytes.begin(), bytes.end()));
  }
  std::ranges::sort(content);
  return content;
}

}  // namespace

TEST_CASE("sgpack: the same images under the same classes, as any program takes them") {
  const Folder folder;
  const Ran ran = folder.pack("out", "--shard-images 15");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out, "train: 40 images in 3 shards"));
  CHECK(contains(ran.out, "val: 12 images in 1 shards"));
  CHECK(folder.file("out/classes.txt") == "1 0\n10 1\n");
  for (const data::Split split : {data::Split::train, data::Split::val}) {
    const auto before = data::open_dataset((folder / "in").string(), split),
               after = data::open_dataset((folder / "out").string(), split);
    CHECK(content_of(*before) == content_of(*after));
    CHECK(before->class_names() == after->class_names());
  }
  // Shuffled, by the seed alone.
  const data::TarDataset train(data::find_shards((folder / "out/train-*.tar").string()));
  CHECK(train.shard_ends() == std::vector<int64_t>{15, 30, 40});
  std::set<int> first;
  for (int64_t i = 0; i < 15; ++i) first.insert(train.label(i));
  CHECK(first.size() == 2);
  REQUIRE(folder.pack("again", "--shard-images 15 --workers 1").code == 0);
  REQUIRE(folder.pack("other", "--shard-images 15 --seed 1").code == 0);
  CHECK(folder.file("again/train-000001.tar") == folder.file("out/train-000001.tar"));
  CHECK(folder.file("other/train-000001.tar") != folder.file("out/train-000001.tar"));
  // A size in MB; nothing is cut where all fits.
  REQUIRE(folder.pack("one", "--shard-size 1").code == 0);
  CHECK_FALSE(fs::exists(folder / "one/train-000001.tar"));
}

TEST_CASE("sgpack: trained on, resumed within an epoch with the same bits, evaluated") {
  const Folder folder;
  REQUIRE(folder.pack("out", "--shard-images 15").code == 0);
  const auto train = [&](const std::string& to, const std::string& more) {
    return run_program(sgtrain(folder / "out", folder / to, "--aug-repeats 0 " + more));
  };
  const Ran whole = train("whole", "");
  REQUIRE_MESSAGE(whole.code == 0, whole.err);
  REQUIRE(train("parts", "--max-steps 3").code == 0);
  const Ran rest = train("parts", "--resume auto");
  REQUIRE_MESSAGE(rest.code == 0, rest.err);
  CHECK(last_tensors(folder / "parts") == last_tensors(folder / "whole"));
  CHECK(numbers(folder / "parts") == numbers(folder / "whole"));

  const auto evaluate = [&](const std::string& data) {
    return run_program(fmt::format("sgeval --device cpu --json --data '{}' --checkpoint {}",
                                   (folder / data).string(), (folder / "whole").string()));
  };
  const Ran shards = evaluate("out"), folders = evaluate("in"),
            pattern = evaluate("out/val-{0..0}00000.tar");
  REQUIRE_MESSAGE(shards.code == 0, shards.err);
  REQUIRE_MESSAGE(folders.code == 0, folders.err);
  REQUIRE_MESSAGE(pattern.code == 0, pattern.err);
  CHECK(shards.json()["images"] == 12);
  CHECK(shards.json()["top1"] == folders.json()["top1"]);
  CHECK(shards.json()["loss"].get<double>() ==
        doctest::Approx(folders.json()["loss"].get<double>()).epsilon(1e-5));  // another order
  CHECK(pattern.json()["top1"] == shards.json()["top1"]);
}

TEST_CASE("sgpack: started again it keeps whole shards and makes the others again") {
  const Folder folder;
  REQUIRE(folder.pack("whole", "--shard-images 9").code == 0);
  REQUIRE(folder.pack("out", "--shard-images 9").code == 0);
  const auto same = [&] {
    for (int i = 0; i < 5; ++i) {
      const std::string name = fmt::format("/train-{:06}.tar", i);
      CHECK(folder.file("out" + name) == folder.file("whole" + name));
    }
    CHECK(folder.file("out/train.sgpack.json") == folder.file("whole/train.sgpack.json"));
  };
  const auto time = fs::last_write_time(folder / "out/train-000000.tar");
  std::string damaged = folder.file("out/train-000002.tar");
  damaged[1000] ^= 1;
  put(folder / "out/train-000002.tar", damaged);
  fs::remove(folder / "out/train-000004.tar");
  const auto of_killed = {"train-000004.tar.unfinished.12.0", "train.sgpack.json.unfinished.12.1",
                          "classes.txt.unfinished.12.0"};
  for (const char* name : of_killed) put(folder / "out" / name, "of a run that was killed");
  put(folder / "out/notes.tar.unfinished.12.0", "of someone else");
  const Ran again = folder.pack("out", "--shard-images 9");
  REQUIRE_MESSAGE(again.code == 0, again.err);
  CHECK(contains(again.out, "train-000002.tar: is not there as it was written; made again"));
  CHECK(contains(again.out, "train-000004.tar: is not there as it was written; made again"));
  CHECK_FALSE(contains(again.out, "train-000001.tar: is not"));
  same();
  CHECK(fs::last_write_time(folder / "out/train-000000.tar") == time);
  for (const char* name : of_killed) CHECK_FALSE(fs::exists(folder / "out" / name));
  CHECK(fs::exists(folder / "out/notes.tar.unfinished.12.0"));

  // Ended at any moment.
  fs::remove_all(folder / "out");
  for (int i = 0; i < 5; ++i) {
    const pid_t child =
        start_program(fmt::format("sgpack {} {} --shard-images 9 --workers 1",
                                  (folder / "in").string(), (folder / "out").string()));
    ::usleep(useconds_t(3000 * (i + 1)));
    ::kill(child, SIGKILL);
    finish(child);
  }
  REQUIRE(folder.pack("out", "--shard-images 9").code == 0);
  same();
}

TEST_CASE("sgpack: changed input, other settings and files of others are refused") {
  const Folder folder;
  REQUIRE(folder.pack("out").code == 0);
  const Ran settings = folder.pack("out", "--seed 3");
  CHECK(settings.code == 2);
  CHECK(contains(settings.err, "other settings"));
  put(folder / "in/train/10/a.3.PNG", png_image(5, 5));
  const Ran changed = folder.pack("out");
  CHECK(changed.code == 3);
  CHECK(contains(changed.err, "have changed"));
  // Of shards too, though the names of their images stay.
  const auto pack_shards = [&] {
    return run_program(
        fmt::format("sgpack {} {}", (folder / "out").string(), (folder / "again").string()));
  };
  REQUIRE(pack_shards().code == 0);
  CHECK(pack_shards().code == 0);
  const auto time = fs::last_write_time(folder / "out/train-000000.tar");
  fs::last_write_time(folder / "out/train-000000.tar", time + std::chrono::seconds(1));
  const Ran repacked = pack_shards();
  CHECK(repacked.code == 3);
  CHECK(contains(repacked.err, "have changed"));
  fs::create_directories(folder / "taken");
  put(folder / "taken/train-000000.tar", "mine");
  const Ran taken = folder.pack("taken");
  CHECK(taken.code == 2);
  CHECK(contains(taken.err, "did not write it"));
  CHECK(folder.file("taken/train-000000.tar") == "mine");
  fs::create_directories(folder / "classes");
  put(folder / "classes/classes.txt", "1\n10\n11\n");
  CHECK(folder.pack("classes").code == 0);  // more classes than these images have
  put(folder / "classes/classes.txt", "cat\ndog\n");
  CHECK(folder.pack("classes").code == 3);
  put(folder / "classes/train.sgpack.json", "{}");
  put(folder / "classes/classes.txt", "1\n10\n11\n");
  CHECK(folder.pack("classes").code == 2);
}

TEST_CASE("sgpack: larger images are made smaller, the others keep their bytes") {
  const Folder folder;
  REQUIRE(folder.pack("out", "--resize 32 --quality 95 --subsampling 444").code == 0);
  const data::TarDataset train(data::find_shards((folder / "out/train-*.tar").string()));
  const auto before = data::open_dataset((folder / "in").string(), data::Split::train);
  int64_t kept = 0;
  std::vector<uint8_t> bytes, original;
  for (int64_t i = 0; i < train.size(); ++i) {
    train.open(i, bytes);
    // Its number in the data set stands in front of its name.
    const int64_t sample = std::stoll(train.key(i));
    data::Image image, small;
    before->open(sample, original)->read(image);
    const int shorter = std::min(image.height, image.width);
    if (shorter <= 32) {
      CHECK(bytes == original);
      CHECK(train.name(i).ends_with(".png"));
      ++kept;
      continue;
    }
    small.reset(image.height * 32 / shorter, image.width * 32 / shorter);
    data::Resizer()(image.view(),
                    data::Resize::whole(small.height, small.width, data::Filter::bicubic),
                    small.pixels.data());
    CHECK(bytes == data::encode_jpeg(small, 95, data::ChromaSampling::full));
    CHECK(train.name(i).ends_with(".jpg"));
  }
  CHECK(kept > 5);
  CHECK(kept < train.size());
}

TEST_CASE("sgpack: broken images are named, counted and left out; one split; a flat folder") {
  const Folder folder;
  std::string cut = folder.file("in/val/10/a.3.PNG");
  put(folder / "in/val/10/a.3.PNG", cut.substr(0, cut.size() / 2));
  const Ran val = folder.pack("out", "--split val");
  REQUIRE_MESSAGE(val.code == 0, val.err);
  CHECK(contains(val.err, "a.3.PNG"));
  CHECK(contains(val.out, "val: 11 images in 1 shards, 1 broken ones left out"));
  CHECK_FALSE(fs::exists(folder / "out/train-000000.tar"));
  CHECK(folder.pack("strict", "--split val --max-broken-share 0").code == 3);
  CHECK_FALSE(fs::exists(folder / "strict/val-000000.tar"));
  const Ran flat = run_program(
      fmt::format("sgpack {} {}", (folder / "in/train").string(), (folder / "flat").string()));
  REQUIRE_MESSAGE(flat.code == 0, flat.err);
  CHECK(contains(flat.out, "train: 40 images"));
  CHECK(run_program("sgpack").code == 2);
  CHECK(run_program("sgpack a b --shard-sise 3").code == 2);
  // Shards within a folder of classes would be a class of it.
  for (const char* packed : {"in/train", "in"})
    for (const char* inside : {"in/train", "in/train/shards", "in/../in/train/1/shards"}) {
      const Ran refused = run_program(fmt::format("sgpack {} {}", (folder / packed).string(),
                                                  (folder.path() / inside).string()));
      CHECK(refused.code == 2);
      CHECK(contains(refused.err, "choose a folder outside"));
    }
  CHECK(folder.pack("in/val").code == 2);  // of both splits
  CHECK(folder.pack("in/shards").code == 0);
}

}  // namespace sg
