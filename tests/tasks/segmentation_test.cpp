#include "tasks/segmentation.h"

#include <fmt/format.h>

#include <cmath>

#include "core/cpu/parallel.h"
#include "nn/optim/optimizer.h"
#include "tests/dist/ranks.h"
#include "tests/support/paths.h"
#include "tests/support/scenes.h"

using namespace sg;
using test::contains;
namespace fs = std::filesystem;

namespace {

const tasks::Task::Progress kGoOn = [](auto, auto, const auto&) { return true; };

std::unique_ptr<sgformer::Segmentor> nano(const char* head, int64_t classes = 3) {
  sgformer::SegmentorConfig config =
      sgformer::find_segmentor_config("sgformer_nano", head, classes);
  auto model = std::make_unique<sgformer::Segmentor>(config);
  model->parameters().allocate();
  model->parameters().initialize(7);
  return model;
}

std::shared_ptr<const data::SegmentationDataset> open(const fs::path& dir, data::Split split) {
  return std::make_shared<data::SegmentationDataset>(dir.string(), split,
                                                     data::SegmentationRequest{});
}

tasks::SegmentationSettings settings(int64_t batch, dist::Group& group = dist::alone()) {
  tasks::SegmentationSettings s;
  s.batch_size = batch, s.seed = 5;
  s.evaluation.segmenter.scale = {64, 48}, s.evaluation.workers = 1;
  s.evaluation.group = &group;
  s.transform.crop = 32, s.transform.scale = {64, 40};
  s.transform.ratio = {0.75, 1.5}, s.transform.photometric = false;
  s.schedule = {.lr = 4e-3, .power = 0.9, .warmup = {5, 0.1}};
  return s;
}

// Runs `program` in each of so many processes, of one thread.
void run_ranks(int ranks, const std::function<void(dist::Group&)>& program) {
  const auto of_rank = [&](dist::Group& group) {
    set_num_threads(1);
    program(group);
  };
  if (ranks > 1) return test::check_all_well(test::Ranks(ranks, test::kPatient, of_rank).wait());
  const pid_t child = test::start_child([&] {
    of_rank(dist::alone());
    return 0;
  });
  CHECK(test::wait_for(child) == 0);
}

// A run by the interface of tasks alone.
struct Run {
  std::unique_ptr<sgformer::Segmentor> model;
  tasks::Segmentation task;
  nn::Optimizer optimizer;
  dist::Group& group;
  int64_t step = 0, epoch = 0, batches = 0;

  Run(const fs::path& dir, const char* head, int64_t batch, dist::Group& g = dist::alone())
      : model(nano(head)),
        task(*model, open(dir, data::Split::train), open(dir, data::Split::val),
             settings(batch, g)),
        optimizer(model->parameters(), {}),
        group(g) {
    task.start_epoch(0, 0);
  }
  tasks::Losses losses() {
    if (batches == task.batches()) task.start_epoch(++epoch, 0), batches = 0;
    ++batches;
    return task.losses(task.load_batch({step, group.rank() * task.batch_size()}));
  }
  double take_step(double lr) {
    const tasks::Losses l = losses();
    model->parameters().clear_grads();
    autograd::backward(l.total);
    model->parameters().zero_unreached_grads();
    if (!group.alone()) group.communicator({}).all_reduce("gradients", model->parameters().grads());
    optimizer.prepare(lr, group.ranks());
    optimizer.update({});
    optimizer.finish();
    task.prefetch();
    ++step;
    return l.total.detach().item();
  }
};

std::vector<float> all_values(const nn::ParameterStore& p) {
  std::vector<float> values = to_vector<float>(p.values());
  for (const nn::Buffer& b : p.named_buffers())
    for (const float v : to_vector<float>(b.value)) values.push_back(v);
  return values;
}

std::string bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

}  // namespace

TEST_CASE("segmentation: a drawn set is learnt in some dozens of steps") {
  const test::TemporaryFolder dir;
  test::put_scenes(dir.path(), "train", 16);
  test::put_scenes(dir.path(), "val", 5);
  Run run(dir.path(), "semantic_fpn", 8);
  CHECK(*run.task.chance_loss() == doctest::Approx(std::log(3)));
  CHECK(run.losses().total.detach().item() ==
        doctest::Approx(*run.task.chance_loss()).epsilon(0.15));
  CHECK(run.task.findings().tables.empty());
  const tasks::Scores untrained = *run.task.evaluate(kGoOn);
  const double before = untrained["mIoU"];
  CHECK(untrained["loss"] == doctest::Approx(*run.task.chance_loss()).epsilon(0.15));
  CHECK(run.task.schema().back().name == "loss");
  const Schedule schedule = *run.task.schedule(40);
  for (int i = 0; i < 40; ++i) run.take_step(learning_rate(schedule, 0, i));
  const tasks::Scores scores = *run.task.evaluate(kGoOn);
  CHECK(before < 50);
  CHECK(scores["mIoU"] > 75);
  CHECK(scores["aAcc"] > 85);
  CHECK(scores["mAcc"] > 75);
  CHECK(scores["loss"] < *run.task.chance_loss() / 2);

  const Findings f = run.task.findings();
  REQUIRE(f.galleries.size() == 3);
  CHECK(f.galleries[0].title == "What it learns from");
  CHECK(f.galleries[0].items.size() == 8);
  CHECK(f.galleries[1].items.size() == 5);  // all are among the worst six
  CHECK(f.galleries[2].items.size() == 5);
  CHECK(f.galleries[1].items[0].png.starts_with("\x89PNG"));
  CHECK(contains(f.galleries[1].items[0].description, ".png: image, truth, prediction"));
  CHECK(f.tables[0].rows.size() == 3);
  CHECK(f.tables[0].rows[0][0] == "sky");
  int64_t pixels = 0;
  for (const int64_t c : f.matrices[0].counts) pixels += c;
  int64_t labelled = 0;  // all but two rows of each image
  for (int i = 0; i < 5; ++i) labelled += (38 + i % 3) * (56 - i % 2);
  CHECK(pixels == labelled);
  CHECK(f.notes.empty());
}

TEST_CASE("segmentation: the loss of UperNet has a part of its auxiliary head, which is weighted") {
  const test::TemporaryFolder dir;
  test::put_scenes(dir.path(), "train", 4);
  test::put_scenes(dir.path(), "val", 1);
  Run run(dir.path(), "upernet", 4);
  CHECK(run.task.loss_parts() == std::vector<std::string>{"decode", "aux"});
  CHECK(*run.task.chance_loss() == doctest::Approx(1.4 * std::log(3)));
  const tasks::Losses l = run.losses();
  REQUIRE(l.parts.size() == 2);
  CHECK(l.total.detach().item() ==
        doctest::Approx(l.parts[0].detach().item() + 0.4 * l.parts[1].detach().item()));
  CHECK(std::get<PolynomialSchedule>(*run.task.schedule(123)).steps == 123);
  for (int i = 0; i < 3; ++i) run.take_step(1e-3);
  CHECK(run.task.evaluate(kGoOn)->finite());
}

TEST_CASE("segmentation: two ranks are one, statistics of batch norm included") {
  const test::TemporaryFolder dir;
  test::put_scenes(dir.path(), "train", 8);
  test::put_scenes(dir.path(), "val", 5);
  const auto program = [&](dist::Group& group) {
    Run run(dir.path(), "upernet", 4 / group.ranks(), group);
    for (int i = 0; i < 3; ++i) run.take_step(1e-3);
    const auto scores = run.task.evaluate(kGoOn);
    const std::string name = fmt::format("{}-{}", group.ranks(), group.rank());
    test::put(dir / ("values-" + name), bytes_of(all_values(run.model->parameters())));
    test::put(dir / ("findings-" + name),
              fmt::format("{} {}", fmt::join(run.task.findings().matrices[0].counts, " "),
                          run.task.findings().galleries[1].items.size()));
  };
  for (const int ranks : {1, 2}) run_ranks(ranks, program);
  const auto values = [&](const char* name) {
    const std::string bytes = read_file(dir / (std::string("values-") + name));
    std::vector<float> v(bytes.size() / sizeof(float));
    std::memcpy(v.data(), bytes.data(), bytes.size());
    return v;
  };
  const auto one = values("1-0");
  CHECK(values("2-0") == values("2-1"));
  double difference = 0, norm = 0;
  const auto two = values("2-0");
  REQUIRE(one.size() == two.size());
  for (size_t i = 0; i < one.size(); ++i)
    difference += std::pow(double(one[i]) - two[i], 2), norm += std::pow(double(one[i]), 2);
  // Adam's first steps are lr times the gradient's sign: where that is near 0, rounding turns it.
  CHECK(std::sqrt(difference / norm) < 1e-3);
  CHECK(read_file(dir / "findings-2-0") == read_file(dir / "findings-2-1"));
}

TEST_CASE("segmentation: evaluation by any number of ranks gives the same integers") {
  const test::TemporaryFolder dir;
  test::put_scenes(dir.path(), "val", 7);
  fs::remove(dir / "annotations/val/002.png");
  test::put(dir / "images/val/005.png", "no image");
  const auto program = [&](dist::Group& group) {
    const auto model = nano("semantic_fpn");
    tasks::SegmentationEvaluation s = settings(1, group).evaluation;
    s.max_broken_share = 0.5;
    tasks::SegmentationEvaluator evaluate(*model, open(dir.path(), data::Split::val), s);
    const auto scores = evaluate(kGoOn);
    check(bool(scores), "given up");
    std::string text =
        fmt::format("{}\n{} {}\nloss {:a}\n", fmt::join(evaluate.confusion().counts(), " "),
                    evaluate.images(), evaluate.skipped(), (*scores)["loss"]);
    for (const auto& [i, why] : evaluate.broken()) text += fmt::format("{}: {}\n", i, why);
    for (const Gallery& g : evaluate.findings().galleries)
      for (const Gallery::Item& item : g.items) text += item.description + item.headline + "\n";
    test::put(dir / fmt::format("{}-{}", group.ranks(), group.rank()), text);
  };
  for (const int ranks : {1, 2, 3}) run_ranks(ranks, program);
  const std::string one = read_file(dir / "1-0");
  CHECK(contains(one, "\n5 2\nloss 0x"));
  CHECK(contains(one, "2: "));
  CHECK(contains(one, "annotations/val/002.png"));
  CHECK(contains(one, "images/val/005.png"));
  for (const char* other : {"2-0", "2-1", "3-0", "3-1", "3-2"})
    CHECK(read_file(dir / other) == one);
}

TEST_CASE("segmentation: an image that has been mended is counted by the next evaluation") {
  const test::TemporaryFolder dir;
  test::put_scenes(dir.path(), "val", 3);
  const fs::path image = dir / "images/val/001.png";
  const std::string bytes = read_file(image);
  const auto model = nano("semantic_fpn");
  tasks::SegmentationEvaluator evaluate(*model, open(dir.path(), data::Split::val),
                                        settings(1).evaluation);
  const double whole = (*evaluate(kGoOn))["loss"];
  test::put(image, "no image");
  CHECK((*evaluate(kGoOn))["loss"] != whole);
  CHECK(evaluate.skipped() == 1);
  CHECK(evaluate.findings().notes.size() == 1);
  test::put(image, bytes);
  CHECK((*evaluate(kGoOn))["loss"] == whole);
  CHECK(evaluate.images() == 3);
  CHECK(evaluate.findings().notes.empty());
}

TEST_CASE("segmentation: evaluation that is given up, of damaged weights, of nothing") {
  const test::TemporaryFolder dir;
  test::put_scenes(dir.path(), "val", 3);
  const auto model = nano("semantic_fpn");
  tasks::SegmentationEvaluation s = settings(1).evaluation;
  const auto dataset = open(dir.path(), data::Split::val);
  tasks::SegmentationEvaluator evaluate(*model, dataset, s);
  CHECK_FALSE(evaluate([](int64_t done, auto, const auto&) { return done < 2; }));
  CHECK(evaluate(kGoOn)->finite());
  CHECK(evaluate.images() == 3);
  s.max_broken_share = 0;
  test::put(dir / "images/val/001.png", "no image");
  tasks::SegmentationEvaluator strict(*model, dataset, s);
  CHECK(contains(test::error_of(ExitCode::data, [&] { strict(kGoOn); }), "001.png"));
  model->parameters().values().fill_(NAN);
  tasks::SegmentationEvaluator damaged(*model, dataset, settings(1).evaluation);
  CHECK_FALSE(damaged(kGoOn)->finite());
  CHECK(damaged.findings().tables.empty());
}
