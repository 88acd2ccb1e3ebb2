#include "tasks/class_weights.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tasks/classification.h"
#include "tests/support/bars_dataset.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;
using tasks::class_weights;

TEST_CASE("class weights: balanced ones are inverse to the counts, with a mean of 1") {
  const Bars six(6);  // classes 0 and 1 twice, 2 and 3 once
  CHECK(class_weights("", six, 4).empty());
  CHECK(class_weights("balanced", six, 4) == std::vector<double>{0.75, 0.75, 1.5, 1.5});
  CHECK(class_weights("balanced", six, 6) == std::vector<double>{0.75, 0.75, 1.5, 1.5, 1, 1});
  CHECK(class_weights("balanced", Bars(3), 4) == std::vector<double>{0.75, 0.75, 0.75, 1});
}

TEST_CASE("class weights: a file has them in order, or by name") {
  const TemporaryFolder folder;
  const auto of = [&](const std::string& text) {
    put(folder / "w", text);
    return class_weights((folder / "w").string(), Bars(8), 4);
  };
  const std::vector<double> right{1, 2, 0.5, 4};
  CHECK(of("1\n2\n0.5 4\n") == right);
  CHECK(of("1,2, 0.5\r\n4") == right);
  CHECK(of(" [1, 2, 0.5, 4]") == right);
  CHECK(of(R"({"bar 3": 4, "bar 0": 1, "bar 1": 2, "bar 2": 0.5})") == right);

  const auto refused = [&](const std::string& text) {
    return error_of(ExitCode::usage, [&] { of(text); });
  };
  CHECK(contains(refused("1 2 3"), "expected 4 numbers, one a class, found 3"));
  CHECK(contains(refused("1 2 3 x"), "expected a number, found 'x'"));
  CHECK(contains(refused("1 2 3 4z"), "found '4z'"));
  CHECK(contains(refused("1 2 3 0x4"), "found '0x4'"));
  CHECK(contains(refused("1 2 3 0"), "above 0, found 0"));
  CHECK(contains(refused("1 2 3 inf"), "above 0, found inf"));
  CHECK(contains(refused("[1, 2, 3, \"4\"]"), "expected a number, found \"4\""));
  CHECK(contains(refused(R"({"bar 0": 1})"), "no number for class 'bar 1'"));
  CHECK(contains(refused(R"({"bar 0":1,"bar 1":1,"bar 2":1,"bar 3":1,"foo":1})"),
                 "'foo' is no class of the data"));
  CHECK(contains(refused("[1, 2"), (folder / "w").string()));
  CHECK(contains(error_of(ExitCode::usage, [] { class_weights("balance", Bars(8), 4); }),
                 "expected 'balanced' or a file of numbers, found 'balance'"));
}

TEST_CASE("class weights: names that are no UTF-8 are escaped in the file, as in args.json") {
  struct Latin : Bars {
    Latin() : Bars(8) { class_names_[0] = "n\xe9"; }
  };
  const TemporaryFolder folder;
  put(folder / "w", R"({"n\\xe9": 2, "bar 1": 1, "bar 2": 1, "bar 3": 1})");
  CHECK(class_weights((folder / "w").string(), Latin(), 4) == std::vector<double>{2, 1, 1, 1});
}

TEST_CASE("class weights: the loss of chance is that of equal probabilities over the labels") {
  sgformer::Config config = sgformer::find_config("sgformer_nano");
  config.classes = 4;
  const auto data = std::make_shared<const Bars>(6);
  for (const double smoothing : {0.0, 0.1}) {
    sgformer::Classifier model(config);  // of zeros: equal probabilities
    model.parameters().allocate();
    tasks::ClassificationSettings settings;
    settings.batch_size = 6, settings.workers = 0, settings.smoothing = smoothing;
    settings.transform.img_size = 28;
    settings.class_weights = class_weights("balanced", *data, 4);
    tasks::Classification task(model, data, data, settings);
    task.start_epoch(0, 0);
    const double loss = task.losses(task.load_batch({})).total.item();
    CHECK(loss == doctest::Approx(*task.chance_loss()).epsilon(1e-6));
    CHECK((loss > std::log(4) * 1.005) == (smoothing > 0));
  }
}
