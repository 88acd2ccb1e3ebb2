#include "data/loader.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "data/labelled_images.h"
#include "tests/data/images.h"
#include "tests/support/files.h"
#include "tests/support/log.h"
#include "tools/bench/loader_speed.h"

using namespace sg;
using namespace sg::data;
using test::contains;

namespace {

// n small images, some of them broken; can throw something that is not an Error.
class DrawnImages final : public Dataset {
 public:
  explicit DrawnImages(int64_t n, std::set<int64_t> broken = {})
      : size_(n), broken_(std::move(broken)) {
    class_names_ = {"even", "odd"};
    for (int i = 0; i < 7; ++i)
      files_.push_back(test::png(test::scene(20 + i, 30 - i, uint64_t(i))));
  }
  int64_t size() const override { return size_; }
  int label(int64_t i) const override { return int(i % 2); }
  std::string name(int64_t i) const override { return "image " + std::to_string(i); }
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override {
    ++opened;
    if (i == disaster) throw std::runtime_error("disk on fire");
    if (i == too_large) throw std::bad_alloc();
    buffer = files_[size_t(i % 7)];
    if (broken_.contains(i)) buffer.resize(buffer.size() / 2);
    return open_image(buffer, name(i));
  }

  mutable std::atomic<int64_t> opened = 0;
  int64_t disaster = -1, too_large = -1;

 private:
  int64_t size_;
  std::set<int64_t> broken_;
  std::vector<test::Bytes> files_;
};

LoaderConfig config_of(int batch, int workers, bool training = true) {
  LoaderConfig c;
  c.batch_size = batch, c.workers = workers, c.training = training;
  return c;
}

std::shared_ptr<const SampleMaker> samples_of(std::shared_ptr<const Dataset> d) {
  return std::make_shared<LabelledImages>(std::move(d), TransformConfig{.img_size = 16});
}

struct Seen {
  std::vector<std::vector<uint8_t>> images;
  std::vector<std::vector<int32_t>> labels;
  std::vector<std::vector<int64_t>> indices;
  bool operator==(const Seen&) const = default;
  std::vector<int64_t> samples() const {
    std::vector<int64_t> all;
    for (const auto& i : indices) all.insert(all.end(), i.begin(), i.end());
    return all;
  }
};

Seen rest(Loader& loader) {
  Seen seen;
  Batch batch;
  while (loader.next(batch)) {
    CHECK(batch.tensors[LabelledImages::kImages].shape() ==
          Shape{int64_t(batch.indices.size()), 16, 16, 3});
    CHECK(batch.tensors[LabelledImages::kLabels].shape() == Shape{int64_t(batch.indices.size())});
    seen.images.push_back(to_vector<uint8_t>(batch.tensors[LabelledImages::kImages]));
    seen.labels.push_back(to_vector<int32_t>(batch.tensors[LabelledImages::kLabels]));
    seen.indices.push_back(batch.indices);
    for (size_t i = 0; i < batch.indices.size(); ++i)
      CHECK(seen.labels.back()[i] == batch.indices[i] % 2);
  }
  return seen;
}

Seen run(std::shared_ptr<const Dataset> d, const LoaderConfig& c, int64_t epoch,
         int64_t first = 0) {
  Loader loader(samples_of(std::move(d)), c);
  loader.start_epoch(epoch, first);
  return rest(loader);
}

std::vector<int64_t> sorted(std::vector<int64_t> v) {
  std::sort(v.begin(), v.end());
  return v;
}

std::vector<int64_t> numbers_to(int64_t n) {
  std::vector<int64_t> v;
  for (int64_t i = 0; i < n; ++i) v.push_back(i);
  return v;
}

}  // namespace

TEST_CASE("the same bits for any number of workers, and other orders in other epochs") {
  const test::Log log;
  const auto d = std::make_shared<DrawnImages>(50, std::set<int64_t>{7, 31});
  for (const bool training : {true, false}) {
    const Seen one = run(d, config_of(8, 0, training), 3);
    for (int workers : {1, 3}) CHECK(run(d, config_of(8, workers, training), 3) == one);
    LoaderConfig far = config_of(8, 2, training);
    far.prefetch = 5;
    CHECK(run(d, far, 3) == one);
    CHECK((run(d, config_of(8, 1, training), 4) == one) != training);
    LoaderConfig other_seed = config_of(8, 1, training);
    other_seed.seed = 1;
    CHECK((run(d, other_seed, 3) == one) != training);
  }
}

TEST_CASE("an image that takes more memory than there is is skipped and counted by its name") {
  const test::Log log;
  const auto d = std::make_shared<DrawnImages>(10);
  d->too_large = 4;
  for (int workers : {0, 2}) {
    LoaderConfig config = config_of(4, workers, false);
    config.max_broken_share = 0.5;
    Loader loader(samples_of(d), config);
    loader.start_epoch(0);
    CHECK(rest(loader).samples() == std::vector<int64_t>{0, 1, 2, 3, 5, 6, 7, 8, 9});
    CHECK(loader.broken() == 1);
    CHECK(contains(log.text(), "image 4: no memory to decode it"));
  }
}

TEST_CASE("training takes each sample once and drops the last partial batch") {
  const auto d = std::make_shared<DrawnImages>(50);
  Loader loader(samples_of(d), config_of(8, 2));
  CHECK(loader.batches() == 6);
  loader.start_epoch(0);
  const auto samples = rest(loader).samples();
  CHECK(samples.size() == 48);
  CHECK(std::set<int64_t>(samples.begin(), samples.end()).size() == 48);
}

TEST_CASE("a run resumed at batch k sees the same batches") {
  const test::Log log;
  const auto d = std::make_shared<DrawnImages>(40, std::set<int64_t>{5});
  const Seen all = run(d, config_of(6, 2), 1);
  REQUIRE(all.images.size() == 6);
  for (int64_t k = 0; k <= 6; ++k) {
    const Seen part = run(d, config_of(6, 3), 1, k);
    REQUIRE(int64_t(part.images.size()) == 6 - k);
    CHECK(std::equal(part.images.begin(), part.images.end(), all.images.begin() + k));
    CHECK(std::equal(part.indices.begin(), part.indices.end(), all.indices.begin() + k));
  }
}

TEST_CASE("a step has the same images in the same places, however ranks and batches share it") {
  const auto d = std::make_shared<DrawnImages>(53);  // 4 steps of 12, and 5 that are left out
  const Seen alone = run(d, config_of(12, 1), 2);
  REQUIRE(alone.indices.size() == 4);
  for (const auto& [ranks, batches] : {std::pair{1, 3}, {2, 1}, {2, 3}, {3, 2}, {4, 1}}) {
    Seen all;
    all.images.resize(4), all.indices.resize(4);
    for (int rank = 0; rank < ranks; ++rank) {
      LoaderConfig c = config_of(12 / ranks / batches, 1);
      c.rank = rank, c.ranks = ranks, c.step_batches = batches;
      const Seen seen = run(d, c, 2);
      REQUIRE(seen.indices.size() == size_t(4 * batches));
      for (size_t b = 0; b < seen.indices.size(); ++b) {
        const size_t step = b / size_t(batches);
        all.images[step].insert(all.images[step].end(), seen.images[b].begin(),
                                seen.images[b].end());
        all.indices[step].insert(all.indices[step].end(), seen.indices[b].begin(),
                                 seen.indices[b].end());
      }
      const Seen later = run(d, c, 2, 2 * batches);
      CHECK(
          std::equal(later.images.begin(), later.images.end(), seen.images.begin() + 2 * batches));
    }
    CHECK(all.indices == alone.indices);
    CHECK(all.images == alone.images);
  }
}

TEST_CASE("repeated augmentation: copies side by side over the ranks, each of other draws") {
  const auto d = std::make_shared<DrawnImages>(600);
  EpochOrder order(*d, {});
  order.start(1);
  const LoaderConfig plain = config_of(32, 1);
  std::map<int64_t, std::vector<uint8_t>> first;  // the images without repeats
  const auto image = [](const Seen& seen, size_t b, size_t i) {
    const auto at = seen.images[b].begin() + std::ptrdiff_t(i * 16 * 16 * 3);
    return std::vector<uint8_t>(at, at + 16 * 16 * 3);
  };
  const Seen once = run(d, plain, 1);
  for (size_t b = 0; b < once.indices.size(); ++b)
    for (size_t i = 0; i < once.indices[b].size(); ++i)
      first[once.indices[b][i]] = image(once, b, i);

  std::map<int64_t, std::set<std::vector<uint8_t>>> copies;
  for (int rank = 0; rank < 2; ++rank) {
    LoaderConfig c = config_of(32, 2);
    c.aug_repeats = 3, c.rank = rank, c.ranks = 2;
    const Seen seen = run(d, c, 1);
    REQUIRE(seen.indices.size() == 8);  // 600 / 256 * 256 = 512 samples, 64 a step
    const Seen later = run(d, c, 1, 5);
    CHECK(std::equal(later.images.begin(), later.images.end(), seen.images.begin() + 5));
    c.workers = 0;
    CHECK(run(d, c, 1) == seen);
    for (size_t position = 0; position < 256; ++position) {
      const size_t b = position / 32, i = b * 64 + size_t(rank) * 32 + position % 32;
      REQUIRE(seen.indices[b][position % 32] == order.at(int64_t(i / 3)).sample);
      const auto made = image(seen, b, position % 32);
      if (i % 3 == 0) CHECK(made == first.at(order.at(int64_t(i / 3)).sample));
      copies[order.at(int64_t(i / 3)).sample].insert(made);
    }
  }
  CHECK(copies.size() == 171);  // ceil(512 / 3)
  int64_t different = 0;
  for (const auto& [sample, made] : copies) different += int64_t(made.size());
  CHECK(different > 500);  // but for crops that happen to be the same
}

TEST_CASE("repeated augmentation of too small a set is refused") {
  LoaderConfig c = config_of(8, 0);
  c.aug_repeats = 2;
  const auto error = test::error_of(
      ExitCode::usage, [&] { Loader(samples_of(std::make_shared<DrawnImages>(255)), c); });
  CHECK(contains(error, "--aug-repeats"));
  CHECK(contains(error, "of 255 it has 0, less than a batch of 8"));
}

TEST_CASE("where the ranks do not divide the set, all have as many batches of other samples") {
  // 8 ranks of 1,281,167 samples: 1251 batches of 128 each (here some thousandths of it).
  const auto d = std::make_shared<DrawnImages>(1281);
  std::set<int64_t> different;
  for (int rank = 0; rank < 8; ++rank) {
    LoaderConfig c = config_of(15, 0);
    c.rank = rank, c.ranks = 8;
    Loader loader(samples_of(d), c);
    CHECK(loader.batches() == 10);  // of 120
    loader.start_epoch(0);
    Batch batch;
    while (loader.next(batch)) different.insert(batch.indices.begin(), batch.indices.end());
  }
  CHECK(different.size() == 1200);
}

TEST_CASE("evaluation counts each sample once on any number of ranks, in order") {
  const auto d = std::make_shared<DrawnImages>(29);
  for (int ranks : {1, 2, 3, 8, 40}) {
    std::vector<int64_t> all;
    for (int rank = 0; rank < ranks; ++rank) {
      LoaderConfig c = config_of(5, 2, false);
      c.rank = rank, c.ranks = ranks;
      const auto mine = run(d, c, 0).samples();
      CHECK(std::is_sorted(mine.begin(), mine.end()));
      all.insert(all.end(), mine.begin(), mine.end());
    }
    CHECK(sorted(all) == numbers_to(29));
  }
}

TEST_CASE("broken images: replaced in training, left out in evaluation, counted once") {
  const test::Log log;
  const auto d = std::make_shared<DrawnImages>(30, std::set<int64_t>{0, 1, 2, 17});
  Loader train(samples_of(d), config_of(10, 2));
  for (int epoch = 0; epoch < 3; ++epoch) {
    train.start_epoch(epoch);
    const auto samples = rest(train).samples();
    CHECK(samples.size() == 30);
    for (int64_t s : samples) CHECK((s > 2 && s != 17));
    CHECK(train.broken() == 4);
  }
  CHECK(log.lines() == 4);
  Loader eval(samples_of(d), config_of(3, 2, false));  // the whole first batch is broken
  eval.start_epoch(0);
  const auto samples = rest(eval).samples();
  CHECK(samples.size() == 26);
  CHECK(samples[0] == 3);
  CHECK(eval.broken() == 4);
}

TEST_CASE("broken images: evaluation counts those of its last epoch, and logs each once") {
  const test::Log log;
  BrokenSamples broken(0.5, 10);
  for (const int64_t again : {3, 3, 4}) broken.add(again, "x");
  CHECK(broken.messages().size() == 2);
  broken.start();
  broken.check();
  CHECK(broken.messages().empty());
  broken.add(4, "x");
  CHECK(broken.messages().size() == 1);
  CHECK(log.lines() == 2);
  const auto d = std::make_shared<DrawnImages>(30, std::set<int64_t>{2, 17});
  Loader eval(samples_of(d), config_of(3, 2, false));
  for (int epoch = 0; epoch < 2; ++epoch) {
    eval.start_epoch(epoch);
    CHECK(eval.broken() == 0);
    CHECK(rest(eval).samples().size() == 28);
    CHECK(eval.broken() == 2);
  }
  CHECK(log.lines() == 4);
}

TEST_CASE("too many broken images end the run and are named, wherever the workers are") {
  const test::Log log;
  std::set<int64_t> broken;
  for (int64_t i = 0; i < 300; i += 10) broken.insert(i);
  const auto d = std::make_shared<DrawnImages>(300, broken);
  std::set<int64_t> ended_at;
  for (int workers : {0, 1, 4}) {
    Loader loader(samples_of(d), config_of(8, workers, false));
    loader.start_epoch(0);
    Batch batch;
    const std::string error = test::error_of(ExitCode::data, [&] {
      while (loader.next(batch)) {
      }
    });
    CHECK(contains(error, "of 300 images are broken, 10 are allowed"));
    CHECK(contains(error, "image 100: "));
    ended_at.insert(batch.number);
    test::error_of(ExitCode::data, [&] { loader.next(batch); });
  }
  CHECK(ended_at.size() == 1);
  LoaderConfig patient = config_of(8, 2, false);
  patient.max_broken_share = 0.1;
  CHECK(run(d, patient, 0).samples().size() == 270);
}

TEST_CASE("where no image can be read the error tells why") {
  Loader loader(samples_of(std::make_shared<DrawnImages>(6, std::set<int64_t>{0, 1, 2, 3, 4, 5})),
                config_of(3, 1));
  loader.start_epoch(0);
  Batch batch;
  const std::string error = test::error_of(ExitCode::data, [&] { loader.next(batch); });
  CHECK(test::contains(error, "truncated"));
  CHECK(test::contains(error, "nor can 100 others"));
}

TEST_CASE("a file deleted during the run is one more broken image") {
  const test::Log log;
  const test::TemporaryFolder dir;
  std::filesystem::create_directories(dir / "train/a");
  for (int i = 0; i < 12; ++i)
    test::put(dir / ("train/a/" + std::to_string(i) + ".png"),
              test::text(test::png(test::scene(16, 16, uint64_t(i)))));
  std::shared_ptr<const Dataset> d = open_dataset(dir.path().string(), Split::train);
  Loader loader(samples_of(d), config_of(4, 2));
  Batch batch;
  loader.start_epoch(0);
  while (loader.next(batch)) {
  }
  std::filesystem::remove(d->name(5));
  loader.start_epoch(1);
  int64_t samples = 0;
  while (loader.next(batch)) samples += int64_t(batch.indices.size());
  CHECK(samples == 12);
  CHECK(loader.broken() == 1);
}

TEST_CASE("what is not a broken image reaches the caller, at its batch") {
  for (int workers : {0, 1, 3}) {
    auto d = std::make_shared<DrawnImages>(40);
    d->disaster = 13;
    Loader loader(samples_of(d), config_of(4, workers, false));
    loader.start_epoch(0);
    Batch batch;
    for (int i = 0; i < 3; ++i) CHECK(loader.next(batch));
    CHECK_THROWS_WITH(loader.next(batch), "disk on fire");
    CHECK_THROWS_WITH(loader.next(batch), "disk on fire");
  }
}

TEST_CASE("buffers are reused, but never while someone refers to them") {
  const auto d = std::make_shared<DrawnImages>(64);
  Loader loader(samples_of(d), config_of(8, 2));
  Batch batch;
  std::set<const void*> buffers;
  for (int epoch = 0; epoch < 3; ++epoch) {
    loader.start_epoch(epoch);
    while (loader.next(batch)) buffers.insert(batch.tensors[LabelledImages::kImages].raw());
  }
  // Three slots; the later starts find one of them in use and take another.
  CHECK(buffers.size() <= 5);

  std::vector<Batch> kept(6);
  std::vector<std::vector<uint8_t>> copies;
  loader.start_epoch(7);
  for (Batch& b : kept) {
    REQUIRE(loader.next(b));
    copies.push_back(to_vector<uint8_t>(b.tensors[LabelledImages::kImages]));
  }
  loader.start_epoch(8);
  while (loader.next(batch)) {
  }
  for (size_t i = 0; i < kept.size(); ++i)
    CHECK(to_vector<uint8_t>(kept[i].tensors[LabelledImages::kImages]) == copies[i]);
}

TEST_CASE("a steady run asks the system for no tensor memory") {
  const auto d = std::make_shared<DrawnImages>(64);
  Loader loader(samples_of(d), config_of(8, 2));
  Batch batch;
  const auto allocations = [] { return Allocator::of({}).stats().system_allocations; };
  loader.start_epoch(0);
  while (loader.next(batch)) {
  }
  loader.start_epoch(1);
  loader.next(batch);
  const size_t before = allocations();
  while (loader.next(batch)) {
  }
  for (int epoch = 2; epoch < 5; ++epoch) {
    loader.start_epoch(epoch);
    while (loader.next(batch)) {
    }
  }
  CHECK(allocations() == before);
}

TEST_CASE("it may be destroyed or started again at any time") {
  const auto d = std::make_shared<DrawnImages>(64);
  for (int taken = 0; taken < 6; ++taken)
    for (int workers : {0, 3}) {
      Loader loader(samples_of(d), config_of(4, workers));
      Batch batch;
      for (int restart = 0; restart < 3; ++restart) {
        loader.start_epoch(restart);
        for (int i = 0; i < taken; ++i) CHECK(loader.next(batch));
      }
      loader.start_epoch(0);
    }
  Loader never_started(samples_of(d), config_of(4, 2));
}

TEST_CASE("settings that cannot work are refused") {
  const auto d = std::make_shared<DrawnImages>(10);
  const auto refused = [&](auto change) {
    LoaderConfig c = config_of(4, 0);
    change(c);
    return test::error_of(ExitCode::usage, [&] { Loader(samples_of(d), c); });
  };
  CHECK(contains(refused([](auto& c) { c.batch_size = 11; }), "the training set has 10"));
  CHECK(contains(refused([](auto& c) { c.ranks = 3; }), "on each of 3 ranks needs 12 images"));
  CHECK(contains(refused([](auto& c) { c.batch_size = 0; }), "batch-size"));
  CHECK(contains(refused([](auto& c) { c.workers = -1; }), "workers"));
  CHECK(contains(refused([](auto& c) { c.rank = 1; }), "rank"));
  CHECK(contains(refused([](auto& c) { c.max_broken_share = 2; }), "max-broken-share"));
  Loader loader(samples_of(d), config_of(4, 0));
  Batch batch;
  test::error_of(ExitCode::failure, [&] { loader.next(batch); });
  test::error_of(ExitCode::failure, [&] { loader.start_epoch(0, 3); });
  Loader larger_than_set(samples_of(d), config_of(11, 0, false));  // fine in evaluation
}

TEST_CASE("the benchmark counts what it does") {
  const DrawnImages d(20, {3});
  TransformConfig config;
  config.img_size = 16;
  const benchmark::LoaderSpeed speed = benchmark::benchmark_loader(d, config, 3);
  CHECK(speed.images + speed.broken == 750);
  CHECK(std::abs(double(speed.broken) - 37.5) == 0.5);  // one of 20; the last round is a half
  CHECK(d.opened == 4 * 750);
  CHECK(speed.slowest <= speed.images_per_second);
  CHECK(speed.images_per_second <= speed.fastest);
}
