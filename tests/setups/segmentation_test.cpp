#include "setups/segmentation.h"

#include <doctest/doctest.h>

#include <set>

#include "io/file.h"
#include "io/yaml.h"
#include "setups/classification.h"
#include "setups/detection.h"
#include "setups/setups.h"
#include "tests/support/files.h"
#include "tests/support/validate.h"
#include "train/option_table.h"

using namespace sg;
using namespace sg::test;
using train::Options;

namespace {

Options recipe(const std::string& head, const std::string& model) {
  Options o = setups::default_options({.task = "segmentation", .model = model, .head = head});
  o.data = "somewhere";
  return o;
}

std::string refused(const nlohmann::json& json) {
  Options o = recipe("upernet", "sgformer_s");
  train::apply_json(o, json, "args.json");
  return error_of(ExitCode::usage, [&] { test::validate(o); });
}

}  // namespace

TEST_CASE("segmentation: the published recipes are the defaults, and the files of configs/") {
  for (const std::string model : {"sgformer_s", "sgformer_m", "sgformer_b"})
    for (const auto& [head, steps] : {std::pair{"semantic_fpn", 80}, {"upernet", 160}}) {
      CAPTURE(model);
      CAPTURE(head);
      Options o = recipe(head, model);
      test::validate(o);
      CHECK(o.batch_size == 16);
      CHECK(o.steps == steps * 1000);
      o.num_classes = 150;
      const bool upernet = head == std::string("upernet");
      const auto config = setups::segmentor_config(o);
      const size_t size = model == "sgformer_s" ? 0 : model == "sgformer_m" ? 1 : 2;
      CHECK(config.backbone.drop_path ==
            (upernet ? std::array{0.3, 0.4, 0.6} : std::array{0.1, 0.2, 0.3})[size]);
      CHECK((config.auxiliary_channels > 0) == upernet);

      const std::string file = fmt::format("configs/{}_{}k_{}.yaml", head, steps, model.back());
      Options written = recipe(head, model);
      train::apply_json(written,
                        parse_config(read_file(std::filesystem::path(SG_SOURCE_DIR) / file), file,
                                     ExitCode::usage),
                        file);
      test::validate(written);
      CHECK(*written.lr == (upernet ? 6e-5 : 1e-4));
      CHECK(*written.drop_path == config.backbone.drop_path);
      // What the file says is what is decided without it.
      written.lr.reset(), written.drop_path.reset(), written.img_size.reset();
      written.image_scale.reset(), written.reduce_zero_label = false;
      CHECK(train::to_json(written) == train::to_json(recipe(head, model)));
    }
}

TEST_CASE("segmentation: the schedule of the options is mmsegmentation's") {
  Options o = recipe("upernet", "sgformer_s");
  o.img_size = 512, o.image_scale = train::Pair{2048, 512}, o.lr = 6e-5;
  const PolynomialSchedule s = setups::segmentation(o).schedule;
  CHECK(s.at(0) == doctest::Approx(6e-5 * 1e-6).epsilon(1e-12));
  CHECK(s.at(750) ==
        doctest::Approx(6e-5 * (1 - 750 / 160000.0) * (1 - 0.5 * (1 - 1e-6))).epsilon(1e-12));
  CHECK(s.at(80000) == doctest::Approx(3e-5).epsilon(1e-12));
}

TEST_CASE("segmentation: flags of classification are refused, with what to use") {
  CHECK(contains(refused({{"epochs", 5}}),
                 "--epochs: of --task classification, found with --task segmentation; "
                 "segmentation counts in --steps"));
  CHECK(contains(refused({{"mixup", 0.8}}), "--mixup"));
  CHECK(contains(refused({{"aa", "rand-m9"}}), "--aa"));
  CHECK(contains(refused({{"cutmix", 1}}), "--cutmix: of --task classification"));
  CHECK(contains(refused({{"class_names", "names"}}), "--class-map"));
  CHECK(contains(refused({{"smoothing", 0.1}}), "--smoothing"));
  CHECK(contains(refused({{"scale", {0.5, 1.0}}}), "--ratio-range"));
  CHECK(contains(refused({{"crop_pct", 0.9}}), "--image-scale"));
  CHECK(contains(refused({{"no_aug", true}}), "--no-aug"));
  CHECK(contains(refused({{"cooldown_epochs", 0}}), "--cooldown-epochs"));
  CHECK(contains(refused({{"steps", 0}}), "--steps: expected at least 1"));
  CHECK(contains(refused({{"ratio_range", {2.0, 0.5}}}), "--ratio-range: expected 0 < low"));
  CHECK(contains(refused({{"cat_max_ratio", 0}}), "--cat-max-ratio"));
  CHECK(contains(refused({{"head", "upernett"}}), "upernet"));
  Options o = setups::default_options("sgformer_s");
  o.data = "somewhere", o.warmup_steps = 5;
  CHECK(contains(error_of(ExitCode::usage, [&] { test::validate(o); }),
                 "--warmup-steps: of --task segmentation"));
  o.warmup_steps = 0, o.reduce_zero_label = true;
  CHECK(contains(error_of(ExitCode::usage, [&] { test::validate(o); }), "--reduce-zero-label"));
  o.reduce_zero_label = false, o.head = "upernet";
  CHECK(contains(error_of(ExitCode::usage, [&] { test::validate(o); }), "--task segmentation"));
  CHECK(contains(error_of(ExitCode::usage, [] { setups::make_setup("segmentatoin"); }),
                 "segmentation"));
}

TEST_CASE("tasks: what not every one has are options") {
  std::set<std::string_view> all;
  Options o;
  train::each_option(o, [&](const train::OptionInfo& info, auto&) { all.insert(info.name()); });
  for (const std::span<const std::string_view> options :
       {std::span<const std::string_view>(setups::kClassificationOptions),
        std::span<const std::string_view>(setups::kSegmentationOptions),
        std::span<const std::string_view>(setups::kDetectionOptions)})
    for (const std::string_view option : options) {
      CAPTURE(option);
      CHECK(all.contains(option));
    }
}

TEST_CASE("segmentation: one image a forward pass, where batch norm needs two values") {
  CHECK(contains(refused({{"batch_size", 1}}), "--batch-size: expected two images or more"));
  Options o = recipe("upernet", "sgformer_s");
  o.batch_size = 1, o.ranks = 2;
  test::validate(o);
  o = recipe("semantic_fpn", "sgformer_s");
  o.batch_size = 1;
  test::validate(o);
  o.img_size = 32;
  CHECK(contains(error_of(ExitCode::usage, [&] { test::validate(o); }), "maps of one pixel"));
}
