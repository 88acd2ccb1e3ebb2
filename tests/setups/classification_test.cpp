#include "setups/classification.h"

#include <doctest/doctest.h>

#include "setups/setups.h"
#include "tests/support/given_options.h"

using namespace sg;
using namespace sg::test;
using train::Options;

TEST_CASE("classification: the published mixing and erasing are the defaults") {
  for (const char* name : {"sgformer_s", "sgformer_m", "sgformer_b"}) {
    const MixEraseConfig mixing = setups::mix_erase(setups::default_options(name));
    CHECK((mixing.mixup == 0.8 && mixing.cutmix == 1 && !mixing.cutmix_minmax));
    CHECK((mixing.mix_probability == 1 && mixing.switch_probability == 0.5));
    CHECK((mixing.mode == MixMode::batch && mixing.group == 128));
    CHECK((mixing.erase_mode == EraseMode::pixel && mixing.erased_count == 1));
    CHECK(setups::classification(setups::default_options(name)).mix_off_epoch == 0);
  }
}

TEST_CASE("classification: mixup and CutMix pair the images of a batch") {
  train::Options o = setups::default_options("sgformer_s");
  CHECK(setups::mix_erase(o).mixes());
  CHECK(setups::mix_erase(o).group == 128);
  CHECK(setups::mix_erase(o).erase_probability == 0.25);
  CHECK_FALSE(setups::mix_erase(setups::default_options("sgformer_nano")).mixes());
  o.no_aug = true;  // as timm: no erasing, but mixing
  CHECK(setups::mix_erase(o).erase_probability == 0);
  CHECK(setups::mix_erase(o).mixes());
  o.batch_size = 9;
  CHECK(contains(error_of(ExitCode::usage, [&] { setups::mix_erase(o); }),
                 "--batch-size: mixup and CutMix pair the images of a batch: expected an even"));
  o.batch_size = 10, o.mixup_group = 4;
  CHECK(contains(error_of(ExitCode::usage, [&] { setups::mix_erase(o); }),
                 "that divides the batch of 10, found 4"));
  o.mixup = o.cutmix = 0;
  CHECK_FALSE(setups::mix_erase(o).mixes());
}

TEST_CASE("classification: --cutmix-minmax, --remode and --recount, as timm's") {
  const auto config = [](const nlohmann::json& json) { return setups::mix_erase(given(json)); };
  CHECK(config(kNothing).erase_mode == EraseMode::pixel);
  CHECK(config(kNothing).erased_count == 1);
  CHECK(config({{"remode", "const"}}).erase_mode == EraseMode::constant);
  CHECK(config({{"remode", "rand"}, {"recount", 3}}).erase_mode == EraseMode::colour);
  CHECK(config({{"recount", 3}}).erased_count == 3);
  CHECK_FALSE(config(kNothing).cutmix_minmax);
  const auto minmax = config({{"mixup", 0}, {"cutmix", 0}, {"cutmix_minmax", {0.2, 0.8}}});
  REQUIRE(minmax.cutmix_minmax);
  CHECK(*minmax.cutmix_minmax == train::Pair{0.2, 0.8});
  CHECK(minmax.mixes());  // it turns CutMix on
  CHECK(contains(refused({{"remode", "noise"}}), "--remode: expected const, rand or pixel"));
  CHECK(contains(refused({{"recount", 0}}), "--recount: expected from 1 to 8, found 0"));
  CHECK(contains(refused({{"cutmix_minmax", {0.8, 0.2}}}), "cutmix-minmax: expected 0 <= low"));
  CHECK(contains(refused({{"cutmix_minmax", {0.1, 1.2}}}), "--cutmix-minmax: expected from 0 to"));
}

TEST_CASE("classification: batches of mixed images are multiples of 2, or of --mixup-group") {
  CHECK(setups::batch_multiple(given(kNothing)) == 2);
  CHECK(setups::batch_multiple(given({{"mixup_group", 8}})) == 8);
  CHECK(setups::batch_multiple(given({{"mixup", 0}, {"cutmix", 0}})) == 1);
}

TEST_CASE("classification: --bce-loss, and what goes with it alone") {
  CHECK_FALSE(setups::classification(given(kNothing)).bce);
  const auto bce = setups::classification(
                       given({{"bce_loss", true}, {"bce_target_thresh", 0.2}, {"bce_sum", true}}))
                       .bce;
  REQUIRE(bce);
  CHECK(bce->threshold == 0.2);
  CHECK(bce->sum_classes);
  CHECK_FALSE(setups::bce(given({{"bce_loss", true}}))->threshold);
  CHECK(contains(refused({{"bce_sum", true}}), "--bce-sum: of --bce-loss, which is missing"));
  CHECK(contains(refused({{"bce_target_thresh", 0.2}}), "--bce-target-thresh: of --bce-loss"));
  CHECK(contains(refused({{"bce_loss", true}, {"class_weights", "balanced"}}), "--class-weights"));
}

TEST_CASE("classification: --aug-repeats and --validation-batch-size") {
  CHECK(setups::classification(given(kNothing)).aug_repeats == 0);
  CHECK(setups::classification(given({{"aug_repeats", 3}})).aug_repeats == 3);
  CHECK(setups::classification(given({{"validation_batch_size", 7}})).validation_batch_size == 7);
}

TEST_CASE("classification: flags of segmentation are refused, with what to use") {
  CHECK(contains(refused({{"steps", 5}}),
                 "--steps: of --task segmentation, found with --task classification; "
                 "classification counts in --epochs"));
  CHECK(contains(refused({{"head", "upernet"}}), "--head: of --task segmentation"));
  CHECK(contains(refused({{"warmup_steps", 5}}), "--warmup-epochs"));
  CHECK(contains(refused({{"poly_power", 0.9}}), "--poly-power"));
  CHECK(contains(refused({{"reduce_zero_label", true}}), "--reduce-zero-label"));
  CHECK(contains(refused({{"ignore_index", 0}}), "--ignore-index"));
  CHECK(contains(refused({{"image_scale", {2048, 512}}}), "--img-size"));
}
