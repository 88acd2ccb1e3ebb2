// The real model on a handful of images in memory.
#include "tasks/classification.h"

#include <doctest/doctest.h>

#include <cmath>

#include "setups/classification.h"
#include "setups/setups.h"
#include "tests/support/bars_dataset.h"
#include "tests/support/files.h"
#include "tests/support/reducer.h"
#include "train/trainer.h"

using namespace sg;
using namespace sg::test;

namespace {

train::Options options_of(int64_t batch, int64_t workers = 0) {
  train::Options o = setups::default_options("sgformer_nano");
  o.data = "bars", o.num_classes = 4, o.img_size = 28;
  o.batch_size = batch, o.workers = workers;
  o.epochs = 40, o.warmup_epochs = 0, o.cooldown_epochs = 0;
  o.lr = 1e-3, o.smoothing = 0, o.drop_path = 0, o.log_interval = 1000000;
  return o;
}

// All that the recipe draws at random, as strong as it gets.
train::Options everything(int64_t batch, int64_t workers = 0) {
  train::Options o = options_of(batch, workers);
  o.drop_path = 0.3, o.smoothing = 0.1, o.scale = {0.3, 1}, o.aa = "rand-m9-mstd0.5-inc1";
  o.mixup = 0.8, o.cutmix = 1, o.mixup_mode = "elem", o.reprob = 0.5, o.recount = 3;
  return o;
}

struct Run {
  train::Options options;
  TemporaryFolder folder{};
  report::Console console{true};
  sgformer::Classifier model{train::model_config(options)};
  std::unique_ptr<tasks::Classification> task{};
  std::unique_ptr<train::Trainer> trainer{};

  Run(train::Options o, int64_t images, Device device = {}) : options(std::move(o)) {
    model.parameters().allocate(Dtype::f32, device);
    model.parameters().initialize(1);
    const auto bars = std::make_shared<Bars>(images);
    task =
        std::make_unique<tasks::Classification>(model, bars, bars, setups::classification(options));
    trainer = std::make_unique<train::Trainer>(options, *task, console);
  }
  ExitCode go() {
    train::Outputs outputs{.log = report::RunLog(folder.path(), 0, 0, task->schema()),
                           .checkpoints = train::CheckpointFolder(folder / "checkpoints", 1),
                           .identity = nlohmann::json::object()};
    return trainer->run(&outputs);
  }
};

}  // namespace

TEST_CASE("classification: overfits one batch") {
  train::Options o = options_of(8);
  o.epochs = 30, o.scale = o.ratio = {1, 1}, o.hflip = 0, o.model_ema_decay = 0;
  Run run(o, 8);
  // Without the trainer: its checkpoints would take longer than the thirty steps.
  double first = 0, last = 0;
  nn::Optimizer optimizer(run.model.parameters(), {.weight_decay = 0.05});
  for (int step = 0; step < 30; ++step) {
    run.task->start_epoch(step, 0);
    run.model.parameters().clear_grads();
    const Tensor loss = run.task->losses(run.task->load_batch({step, 0})).total;
    autograd::backward(loss);
    last = loss.item();
    if (step == 0) first = last;
    optimizer.prepare(1e-3), optimizer.update(loss), optimizer.finish();
  }
  CHECK(first == doctest::Approx(std::log(4)).epsilon(0.1));  // at first all classes are as likely
  CHECK(last < 0.05);
  const auto scores = run.task->evaluate([](auto, auto, const auto&) { return true; });
  REQUIRE(scores);
  CHECK((*scores)["top1"] == 100);
  CHECK((*scores)["top5"] == 100);
  CHECK((*scores)["loss"] < 0.05);
}

namespace {

train::Options mixed_options(int64_t batch) {
  train::Options o = everything(batch);
  o.mixup_group = 4;
  return o;
}

double loss_of(Run& run, int64_t epoch, const std::vector<tasks::BatchPosition>& positions) {
  const autograd::NoGrad no_grad;
  run.task->start_epoch(epoch, 0);
  double sum = 0;
  for (const tasks::BatchPosition& p : positions)
    sum += run.task->losses(run.task->load_batch(p)).total.item();
  return sum / double(positions.size());
}

}  // namespace

TEST_CASE("classification: mixing and erasing are drawn by the position in the step") {
  Run whole(mixed_options(8), 8), parts(mixed_options(4), 8);
  const double loss = loss_of(whole, 0, {{5, 0}});
  CHECK(loss == doctest::Approx(loss_of(parts, 0, {{5, 0}, {5, 4}})).epsilon(1e-5));
  CHECK(loss == loss_of(whole, 0, {{5, 0}}));
  CHECK(std::abs(loss - loss_of(whole, 0, {{6, 0}})) > 1e-4);  // another step's draws
}

TEST_CASE("classification: --bce-loss begins at ln 2 a class, mixed or not") {
  for (const bool sum : {false, true})
    for (const double mixup : {0.0, 0.8}) {
      train::Options o = options_of(8);
      o.bce_loss = true, o.bce_sum = sum, o.mixup = mixup, o.bce_target_thresh = 0.2;
      Run run(o, 8);
      const double expected = std::log(2) * (sum ? 4 : 1);
      CHECK(*run.task->chance_loss() == doctest::Approx(expected));
      CHECK(loss_of(run, 0, {{5, 0}}) == doctest::Approx(expected).epsilon(0.1));
    }
}

TEST_CASE("classification: at the start S finds all of 1000 classes as likely: ln 1000 = 6.908") {
  train::Options o = setups::default_options("sgformer_s");
  o.data = "bars", o.num_classes = 1000, o.batch_size = 2, o.workers = 0;
  o.smoothing = 1;  // the mean over all labels: that of one label is 0.3 off
  Run run(o, 4);
  const double loss = loss_of(run, 0, {{0, 0}});
  CHECK(loss > 6.9);
  CHECK(loss < 7.0);
}

TEST_CASE("classification: --mixup-off-epoch ends mixing, not erasing") {
  const auto loss_in = [](int64_t epoch, int64_t off, double mixup, double reprob) {
    train::Options o = mixed_options(8);
    o.mixup_off_epoch = off, o.mixup = o.cutmix = mixup, o.reprob = reprob;
    Run run(o, 8);
    return loss_of(run, epoch, {{5, 0}});
  };
  CHECK(loss_in(3, 3, 1, 1) == loss_in(3, 0, 0, 1));
  CHECK(std::abs(loss_in(2, 3, 1, 1) - loss_in(2, 0, 0, 1)) > 1e-4);
  CHECK(std::abs(loss_in(3, 0, 0, 1) - loss_in(3, 0, 0, 0)) > 1e-4);
}

TEST_CASE("classification: the same bits for any number of loading threads") {
  std::vector<float> expected;
  for (int64_t workers : {0, 1, 3}) {
    train::Options o = everything(6, workers);
    o.max_steps = 3;
    Run run(o, 20);
    CHECK(run.go() == ExitCode::ok);
    const auto values = to_vector<float>(run.model.parameters().values());
    if (workers == 0) expected = values;
    CHECK(values == expected);
  }
}

TEST_CASE(
    "classification: a run stopped within an epoch and resumed has the bits of one that was not") {
  train::Options o = everything(6, 1);
  o.epochs = 2;
  Run whole(o, 20);
  CHECK(whole.go() == ExitCode::ok);
  Run second(o, 20);
  o.max_steps = 4;  // of six
  Run first(o, 20);
  CHECK(first.go() == ExitCode::ok);
  const auto from = train::find_resumable(first.folder / "checkpoints");
  REQUIRE(from);
  second.trainer->restore(from->checkpoint);
  CHECK(second.trainer->state().step == 4);
  CHECK(second.go() == ExitCode::ok);
  CHECK(to_vector<float>(second.model.parameters().values()) ==
        to_vector<float>(whole.model.parameters().values()));
}

TEST_CASE("classification: findings show the batch that was trained on last") {
  train::Options o = everything(6);
  o.max_steps = 2;
  Run run(o, 20);
  CHECK(run.task->findings().galleries.empty());
  CHECK(run.go() == ExitCode::ok);
  const Findings f = run.task->findings();
  REQUIRE(!f.galleries.empty());
  CHECK(f.galleries[0].title == "What it learns from");
  CHECK(f.galleries[0].items.size() == 6);
}

TEST_CASE("classification: a step in the steady state asks the system for no memory") {
  for (bool recompute : {false, true}) {
    train::Options o = options_of(4);
    o.drop_path = 0.3, o.clip_grad = 1, o.grad_accum = 2, o.grad_checkpointing = recompute;
    Run run(o, 64);
    size_t before = 0;
    for (int step = 0; step < 6; ++step) {
      if (step == 3) before = Allocator::of({}).stats().system_allocations;
      run.trainer->try_step();
    }
    CHECK(Allocator::of({}).stats().system_allocations == before);
  }
}

TEST_CASE("classification: recomputed activations give the same bits") {
  std::vector<float> expected;
  for (bool recompute : {false, true}) {
    train::Options o = options_of(4);
    o.drop_path = 0.3, o.grad_checkpointing = recompute;
    Run run(o, 8);
    run.trainer->try_step(), run.trainer->try_step();
    const auto values = to_vector<float>(run.model.parameters().values());
    if (!recompute) expected = values;
    CHECK(values == expected);
  }
}

TEST_CASE("classification: slices of the gradient leave complete and in order, recomputed or not") {
  for (bool recompute : {false, true}) {
    train::Options o = options_of(4);
    o.drop_path = 0.3, o.grad_accum = 2, o.grad_checkpointing = recompute;
    Run run(o, 16), plain(o, 16);
    Recorder recorder(run.model.parameters());
    run.trainer->attach(recorder, 1 << 14);
    for (int step = 0; step < 3; ++step) {
      run.trainer->try_step(), plain.trainer->try_step();
      CHECK(recorder.slices.size() > 5);
      recorder.check_step(recorder.slices.size());
    }
    CHECK(recorder.most_unfinished > 5);
    CHECK(to_vector<float>(run.model.parameters().values()) ==
          to_vector<float>(plain.model.parameters().values()));
  }
}

TEST_CASE("classification: every image is evaluated once, whatever the batch") {
  std::vector<double> losses;
  for (int64_t batch : {1, 4, 10, 16}) {
    Run run(options_of(batch), 10 + 6);
    const auto scores = run.task->evaluate([](auto, auto, const auto&) { return true; });
    REQUIRE(scores);
    losses.push_back((*scores)["loss"]);
    CHECK((*scores)["top5"] == 100);
    // A sixteenth each.
    CHECK(std::fmod((*scores)["top1"], 100.0 / 16) == 0);
  }
  for (double loss : losses) CHECK(loss == doctest::Approx(losses[0]).epsilon(1e-5));
}

// Two whole batches and a short one: each epoch begins with the other of the two uploads.
TEST_CASE("classification: on cuda, every evaluation has the scores of the first") {
  if (!have_cuda()) return;
  train::Options o = options_of(3);
  o.num_classes = 300;  // logits of a size of their own
  Run run(o, 7, kCuda);
  const auto scores = [&] {
    return run.task->evaluate([](auto, auto, const auto&) { return true; })->values;
  };
  const auto first = scores();
  for (int i = 0; i < 3; ++i) CHECK(scores() == first);
}
