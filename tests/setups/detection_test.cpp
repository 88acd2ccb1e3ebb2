#include "setups/detection.h"

#include <doctest/doctest.h>

#include "io/file.h"
#include "io/yaml.h"
#include "setups/setups.h"
#include "tests/support/files.h"
#include "tests/support/validate.h"
#include "train/option_table.h"

using namespace sg;
using namespace sg::test;
using train::Options;

namespace {

Options recipe(const std::string& model) {
  Options o = setups::default_options({.task = "detection", .model = model});
  o.data = "somewhere", o.device = "cpu";
  return o;
}

std::string refused(const nlohmann::json& json) {
  Options o = recipe("sgformer_s");
  train::apply_json(o, json, "args.json");
  return error_of(ExitCode::usage, [&] { test::validate(o); });
}

Options written(const std::string& model, int schedule) {
  const std::string file = fmt::format("configs/mask_rcnn_{}x_{}.yaml", schedule, model.back());
  Options o = recipe(model);
  train::apply_json(
      o,
      parse_config(read_file(std::filesystem::path(SG_SOURCE_DIR) / file), file, ExitCode::usage),
      file);
  test::validate(o);
  return o;
}

}  // namespace

TEST_CASE("detection: the published recipes are the defaults, and the files of configs/") {
  for (const std::string model : {"sgformer_s", "sgformer_m", "sgformer_b"}) {
    CAPTURE(model);
    Options short_one = written(model, 1), long_one = written(model, 3);
    CHECK(*long_one.drop_path == sgformer::detector_drop_path(model, true));
    CHECK(setups::detection(long_one).schedule.epochs == std::vector<int64_t>{27, 33});
    CHECK(setups::detection(long_one).batches.transform.multi_scale);
    long_one.drop_path.reset();
    CHECK(setups::detector_config(long_one).backbone.drop_path ==
          sgformer::detector_drop_path(model, true));

    CHECK(*short_one.drop_path == sgformer::detector_drop_path(model, false));
    CHECK(train::images_a_step(short_one) == 16);
    // What the file says is what is decided without it.
    CHECK(*short_one.lr == 1e-4);
    CHECK(setups::object_detector_settings(recipe(model)).scale.long_side == 1333);
    short_one.lr.reset(), short_one.drop_path.reset(), short_one.image_scale.reset();
    short_one.decay_milestones.reset();
    CHECK(train::to_json(short_one) == train::to_json(recipe(model)));
  }
}

TEST_CASE("detection: the learning rate falls at epochs 8 and 11 of 12") {
  Options o = recipe("sgformer_s");
  o.lr = 1e-4;
  const auto epochs = [&] { return setups::detection(o).schedule.epochs; };
  CHECK(epochs() == std::vector<int64_t>{8, 11});
  o.epochs = 3;
  CHECK(epochs() == std::vector<int64_t>{2});
  o.epochs = 1;
  CHECK(epochs().empty());
  o.epochs = 3;
  o.decay_milestones = train::Pair{1, 2};
  CHECK(epochs() == std::vector<int64_t>{1, 2});
  CHECK(contains(refused({{"lr_milestones", {11, 8}}}), "--lr-milestones"));
}

TEST_CASE("detection: which weights decay") {
  sgformer::Detector model(sgformer::find_detector_config("sgformer_nano", 3));
  model.parameters().set_groups(sgformer::group_rule(model.config(), {}));
  const auto decays = [&](const std::string& name) {
    return model.parameters().part(name).group.weight_decay_scale > 0;
  };
  CHECK(decays("rpn_head.rpn_conv.weight"));
  CHECK(decays("rpn_head.rpn_conv.bias"));
  CHECK(decays("backbone.block1.0.mlp.fc1.bias"));
  CHECK(!decays("backbone.block1.0.norm1.weight"));
  CHECK(!decays("backbone.norm4.bias"));
  CHECK(!decays("backbone.pos_embed"));
  for (const std::string& name : model.parameters().names())
    if (contains(name, ".bn.")) CHECK_MESSAGE(!decays(name), name);
}

TEST_CASE("detection: flags that mean nothing to the task are refused, with what to use") {
  CHECK(contains(refused({{"steps", 5}}), "detection counts in --epochs"));
  CHECK(contains(refused({{"mixup", 0.8}}), "--mixup: of --task classification"));
  CHECK(contains(refused({{"warmup_epochs", 5}}), "--warmup-steps"));
  CHECK(contains(refused({{"head", "upernet"}}), "--head"));
  CHECK(contains(refused({{"img_size", 800}}), "--image-scale"));
  CHECK(contains(refused({{"class_map", "names"}}), "--class-map"));
  Options o = setups::default_options("sgformer_s");
  o.data = "somewhere", o.multi_scale = true;
  CHECK(contains(error_of(ExitCode::usage, [&] { test::validate(o); }),
                 "--multi-scale: of --task detection"));
  CHECK(contains(error_of(ExitCode::usage,
                          [] {
                            setups::check_detection_device(Device{DeviceType::cuda, 0});
                          }),
                 "detection is not implemented on GPUs; use --device cpu"));
}
