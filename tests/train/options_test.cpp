#include "train/options.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "core/cpu/cores.h"
#include "setups/setups.h"
#include "tests/support/given_options.h"

using namespace sg;
using namespace sg::test;
using train::Options;

TEST_CASE("options: args.json gives back every one of them") {
  Options o = setups::default_options("sgformer_nano");
  o.data = "d", o.num_classes = 7, o.mean = {0.1, 0.2, 0.3}, o.scale = {0.3, 0.9};
  o.model_ema_decay = 0.5, o.grad_checkpointing = true, o.guidance = "local", o.lr = 0.1 + 0.2;
  o.cutmix_minmax = {0.2, 0.9};
  nlohmann::json json = train::to_json(o);
  json["version"] = "0.1.0";
  Options back;
  train::apply_json(back, json, "args.json");
  CHECK(train::to_json(back) == train::to_json(o));
  CHECK(back.lr == o.lr);
}

TEST_CASE("options: paths are bytes, which args.json holds escaped") {
  Options o = setups::default_options("sgformer_nano"), back;
  o.data = "d\xe9p\xf4t/caf\\xe9", o.output = "r\xc3\xa9sultat";
  const nlohmann::json json = train::to_json(o);
  CHECK(json["data"] == "d\\xe9p\\xf4t/caf\\x5cxe9");
  train::apply_json(back, nlohmann::json::parse(json.dump()), "args.json");
  CHECK(back.data == o.data);
  CHECK(back.output == o.output);
}

TEST_CASE("options: a file's names may have either kind of hyphen, and null leaves a default") {
  CHECK(given({{"batch-size", 4}}).batch_size == 4);
  CHECK(given({{"batch_size", 4}}).batch_size == 4);
  CHECK(!given({{"lr", nullptr}}).lr);
  CHECK(given({{"weight_decay", 1}}).weight_decay == 1);
  CHECK(given({{"grad_accum_steps", 2}}).grad_accum == 2);  // another name of the flag
  CHECK(given({{"data_dir", "there"}}).data == "there");
  CHECK(given({{"aug_repeats", 3.0}}).aug_repeats == 3);
}

TEST_CASE("options: image sizes of args.json, old and new") {
  const auto size = [](const nlohmann::json& value) {
    return train::transforms(given({{"img_size", value}})).img_size;
  };
  CHECK(size(160) == ImageSize(160, 160));
  CHECK(size("320 256") == ImageSize(320, 256));
  CHECK(size("320x256") == ImageSize(320, 256));
  CHECK(size({320, 256}) == ImageSize(320, 256));
  CHECK(train::to_json(given({{"img_size", "320x256"}}))["img_size"] == "320 256");
  CHECK(train::to_json(given({{"img_size", "64 64"}}))["img_size"] == 64);
  CHECK(contains(refused({{"img_size", "320 x 256"}}), "expected a number or"));
  CHECK(contains(refused({{"img_size", "320 9000"}}), "--img-size: expected from 1 to 8192"));
}

TEST_CASE("options: a file's unknown names and wrong types are named") {
  CHECK(contains(refused({{"batch_sise", 4}}), "did you mean 'batch_size'"));
  CHECK(contains(refused({{"batch_size", "many"}}), "expected a whole number, found \"many\""));
  CHECK(contains(refused({{"batch_size", 1.5}}), "expected a whole number"));
  CHECK(contains(refused({{"scale", {1}}}), "2 numbers"));
  CHECK(contains(refused({{"grad_checkpointing", 1}}), "true or false"));
  CHECK(contains(refused(nlohmann::json::array()), "expected options"));
}

TEST_CASE("options: out of range names the flag, the range and what was found") {
  CHECK(contains(refused({{"batch_size", 0}}), "--batch-size: expected from 1 to"));
  CHECK(contains(refused({{"lr", -1}}), "--lr: expected from 0 to 1000, found -1"));
  CHECK(contains(refused({{"smoothing", 1.5}}), "--smoothing: expected from 0 to 1, found 1.5"));
  CHECK(contains(refused({{"drop_path", 1.0}}), "from 0 to less than 1"));
  CHECK(contains(refused({{"model_ema_decay", 1.0}}), "--model-ema-decay"));
  CHECK(contains(refused({{"std", {0.2, 0.0, 0.2}}}), "--std"));
  CHECK(contains(refused({{"clip_grad", -0.5}}), "--clip-grad: expected at least 0"));
  CHECK(contains(refused({{"scale", {0.9, 0.5}}}), "scale"));
  CHECK(contains(refused({{"img_size", 0}}), "--img-size"));
  CHECK(contains(refused({{"epochs", 5}, {"warmup_epochs", 5}}), "--warmup-epochs"));
  for (const std::string dtype : {"f64", "bfloat16"})
    CHECK(refused({{"device", "cpu"}, {"dtype", dtype}}) ==
          "--dtype: expected auto, f32 or bf16, found '" + dtype + "'");
  CHECK(contains(refused({{"device", "cuda:7"}}), "device cuda:7"));
  CHECK(contains(refused({{"train_interpolation", "nearest"}}), "nearest"));
  CHECK(contains(refused({{"data", ""}}), "--data"));
  CHECK(contains(refused({{"resume", "auto"}}), "--resume auto: --output is missing"));
  CHECK(contains(refused({{"ema", true}}), "--ema: chooses weights of --initial-checkpoint"));
  CHECK(contains(refused({{"initial_checkpoint", "x"}, {"ema", true}, {"no_ema", true}}),
                 "--ema and --no-ema: give one"));
  CHECK(contains(refused({{"scales", "4,2,1"}}), "heads"));
  CHECK(contains(refused({{"freeze", "5"}}), "--freeze: expected backbone, or a number of stages"));
  CHECK(contains(refused({{"layer_decay", 1.5}}), "--layer-decay: expected from 0.001 to 1"));
  CHECK(contains(refused({{"opt_eps", 0}}), "--opt-eps: expected from 1e-30 to 1, found 0"));
  CHECK(
      contains(refused({{"opt_betas", {0.9, 1}}}), "--opt-betas: expected from 0 to less than 1"));
  CHECK(contains(refused({{"opt_betas", {0.9}}}), "opt_betas: expected 2 numbers"));
  CHECK(
      contains(refused({{"clip_mode", "agc"}}), "--clip-mode: expected norm or value, found 'ag"));
  CHECK(contains(refused({{"no_resume_opt", true}}), "--no-resume-opt: of --resume"));
  for (const nlohmann::json& once :
       {nlohmann::json{{"no_resume_opt", true}}, nlohmann::json{{"start_epoch", 3}}}) {
    nlohmann::json json{{"resume", "auto"}, {"output", "r"}};
    json.update(once);
    CHECK(contains(refused(json), "would do it again in every start"));
  }
  CHECK(contains(refused({{"start_epoch", 310}}), "--start-epoch: expected less than the 310"));
  CHECK(contains(refused({{"model_ema_warmup", true}, {"model_ema_decay", 0.0}}), "contradict"));
  test::validate(given({{"epochs", 5}, {"warmup_epochs", 5}, {"warmup_prefix", true}}));
  test::validate(given(kNothing));
}

TEST_CASE("options: what a resumed run may change") {
  const auto before = train::to_json(given(kNothing));
  const auto changed = [&](const nlohmann::json& json) {
    return train::changes(before, train::to_json(given(json)));
  };
  CHECK(changed(kNothing).refused == "");
  const auto batch = changed({{"batch_size", 64}, {"lr", 0.5}, {"workers", 7}, {"output", "x"}});
  CHECK(contains(batch.noted, "batch_size"));  // what must stay is the images a step
  CHECK(contains(batch.noted, "128 -> 64"));
  CHECK(contains(batch.noted, "unset -> 0.5"));
  CHECK(!contains(batch.refused + batch.noted, "workers"));
  CHECK(!contains(batch.refused + batch.noted, "output"));
  CHECK(contains(changed({{"freeze", "2"}}).refused, "freeze"));
  CHECK(contains(changed({{"layer_decay", 0.5}}).noted, "1.0 -> 0.5"));
}

TEST_CASE("options: what an older version's args.json lacks is the default") {
  auto older = train::to_json(given(kNothing));
  older.erase("freeze"), older.erase("layer_decay");
  const auto same = train::changes(older, train::to_json(given(kNothing)));
  CHECK(same.refused + same.noted == "");
  const auto other = train::changes(older, train::to_json(given({{"freeze", "backbone"}})));
  CHECK(contains(other.refused, "\"\" -> \"backbone\""));
}

TEST_CASE("options: augmentation") {
  const auto transforms = [](const nlohmann::json& json) { return train::transforms(given(json)); };
  const auto published = transforms(kNothing).rand_augment;
  REQUIRE(published);
  CHECK(published->magnitude == 9);
  CHECK(published->magnitude_std == 0.5);
  CHECK(published->increasing);
  CHECK(published->fill == data::Rgb{124, 116, 104});
  CHECK(!published->filter);
  CHECK(!train::transforms(setups::default_options("sgformer_nano")).rand_augment);
  for (const char* none : {"none", ""}) CHECK(!transforms({{"aa", none}}).rand_augment);

  const auto other = transforms(
      {{"aa", "rand-n3"}, {"mean", {0.5, 0.5, 1.5}}, {"train_interpolation", "bilinear"}});
  CHECK(other.rand_augment->ops == 3);
  CHECK(other.rand_augment->fill == data::Rgb{128, 128, 255});  // 127.5, half to even
  CHECK(other.rand_augment->filter == data::Filter::bilinear);
  CHECK(transforms({{"color_jitter", 0.4}}).color_jitter == 0.4);
  CHECK(transforms({{"vflip", 0.5}}).vflip == 0.5);
  CHECK(transforms({{"no_aug", true}}).no_aug);
  CHECK(transforms({{"color_jitter_prob", 0.8}}).color_jitter_prob == 0.8);
  CHECK(transforms({{"grayscale_prob", 0.2}}).grayscale_prob == 0.2);
  CHECK(contains(refused({{"aa", "augmix-m5"}}), "aa: only RandAugment is built in"));
  CHECK(contains(refused({{"aug_repeats", -1}}), "--aug-repeats: expected"));
  CHECK(contains(refused({{"vflip", 2}}), "--vflip: expected from 0 to 1, found 2"));

  // What an older version trained without, a resumed run is told of.
  auto older = train::to_json(given(kNothing));
  for (const char* key : {"aa", "mixup", "cutmix", "reprob"}) older.erase(key);
  const auto resumed = train::changes(older, train::to_json(given(kNothing)));
  CHECK(resumed.refused == "");
  CHECK(contains(resumed.noted, "\"none\" -> \"rand-m9-mstd0.5-inc1\""));
  for (const char* change : {"0.0 -> 0.8", "0.0 -> 1.0", "0.0 -> 0.25"})
    CHECK(contains(resumed.noted, change));
  const auto nano = train::to_json(setups::default_options("sgformer_nano"));
  auto older_nano = nano;
  for (const char* key : {"aa", "mixup", "cutmix", "reprob"}) older_nano.erase(key);
  CHECK(train::changes(older_nano, nano).noted == "");
}

TEST_CASE("options: images are prepared as published, for evaluation and for training") {
  const Options s = setups::default_options("sgformer_s");
  const data::TransformConfig t = train::transforms(s);
  // The shorter side becomes 224 / 0.9, not 256; bicubic; halves of offsets go to the even side.
  const data::Resize wide = data::eval_resize(375, 500, t);
  CHECK(wide.height == 248);
  CHECK(wide.width == 330);
  CHECK(wide.filter == data::Filter::bicubic);
  CHECK(data::eval_resize(1000, 1006, t).window.left == 12);
  CHECK(train::channel_stats(s).mean == std::array{0.485, 0.456, 0.406});
  CHECK(train::channel_stats(s).std == std::array{0.229, 0.224, 0.225});
  CHECK(t.interpolation == data::Interpolation::random);
  // Color jitter is there for --aa none; with RandAugment nothing of it is applied.
  CHECK(t.color_jitter == 0.4);
  REQUIRE(t.rand_augment);
  data::TransformConfig without = t;
  without.color_jitter = 0;
  const std::vector<uint8_t> pixels(64 * 64 * 3, 77);
  for (int64_t i = 0; i < 20; ++i) {
    std::vector<uint8_t> a(224 * 224 * 3), b(a);
    data::Transform(t).train(*data::open_pixels(pixels.data(), 64, 64, 3), 1, 0, i, a.data());
    data::Transform(without).train(*data::open_pixels(pixels.data(), 64, 64, 3), 1, 0, i, b.data());
    CHECK(a == b);
  }
}

TEST_CASE("options: defaults are the recipe's, and small for the small model") {
  const Options s = setups::default_options("sgformer_s"),
                b = setups::default_options("sgformer_b");
  CHECK(s.epochs == 300);
  CHECK(train::model_config(s).drop_path == 0.1);
  CHECK(train::model_config(b).drop_path == 0.4);
  CHECK(train::peak_learning_rate(s) == 1e-3);
  CHECK(train::warmup_epochs(s) == 20);
  CHECK(train::transforms(s).img_size == 224);
  CHECK(train::transforms(s).crop_pct == 0.9);
  for (const char* name : {"sgformer_s", "sgformer_m", "sgformer_b"}) {
    const Options o = setups::default_options(name);
    CHECK(o.epochs + o.cooldown_epochs == 310);
    CHECK((o.min_lr == 1e-5 && o.warmup_lr == 1e-6 && o.weight_decay == 0.05));
    CHECK((o.clip_grad == 0 && o.smoothing == 0.1 && o.batch_size == 128 && !o.bce_loss));
    CHECK(train::transforms(o).rand_augment);
    CHECK(train::channel_stats(o).mean == std::array{0.485, 0.456, 0.406});
    CHECK(train::channel_stats(o).std == std::array{0.229, 0.224, 0.225});
  }
  const Options nano = setups::default_options("sgformer_nano");
  CHECK(nano.epochs < 30);
  CHECK(train::peak_learning_rate(nano) == 2e-3);
  CHECK(train::warmup_epochs(nano) == 0);
  CHECK(train::transforms(nano).img_size == 28);
  CHECK(train::transforms(nano).crop_pct == 1.0);
  CHECK(contains(error_of(ExitCode::usage, [] { setups::default_options("sgformer_nana"); }),
                 "did you mean 'sgformer_nano'"));
}

TEST_CASE("options: a file that gives an option twice, or none, is refused with what it has") {
  CHECK(contains(refused({{"data", "a"}, {"data_dir", "b"}}),
                 "args.json: 'data' and 'data_dir' are the same option; give one"));
  CHECK(contains(refused({{"batch_size", 4}, {"batch-size", 6}}), "are the same option"));
  CHECK(given({{"data", nullptr}, {"data_dir", "b"}}).data == "b");
  CHECK(contains(refused(nullptr), "expected options, such as 'lr: 1e-3' a line, found nothing"));
  CHECK(contains(refused(nlohmann::json::array()), "found array"));
}

TEST_CASE("options: a wrong word or range is told with its flag") {
  CHECK(contains(refused({{"mixup_mode", "half"}}), "--mixup-mode: expected batch, pair or elem"));
  CHECK(contains(refused({{"train_interpolation", "lanczos"}}),
                 "--train-interpolation: expected bilinear, bicubic or random, found 'lanczos'"));
  CHECK(contains(refused({{"scale", {0.5, 0.1}}}), "--scale: expected 0 < low <= high <= 1"));
  CHECK(contains(refused({{"ratio", {2, 1}}}), "--ratio: expected 0 < low <= high"));
  CHECK(contains(refused({{"cutmix_minmax", {0.8, 0.2}}}), "--cutmix-minmax: expected 0 <= low"));
  CHECK(contains(refused({{"aa", "v0"}}), "--aa: only RandAugment is built in"));
}

TEST_CASE("options: --lr-base is scaled by the images a step, as timm 1; --lr wins over it") {
  const auto rate = [](nlohmann::json json) {
    const Options o = given(json);
    test::validate(o);
    return train::peak_learning_rate(o);
  };
  const nlohmann::json base{{"lr_base", 0.1}, {"batch_size", 64}, {"grad_accum", 16}};
  const auto with = [&](const nlohmann::json& more) {
    nlohmann::json all = base;
    all.update(more);
    return rate(all);
  };
  CHECK(with(kNothing) == doctest::Approx(0.2));  // (1024 / 256)^0.5
  CHECK(with({{"lr_base_scale", "linear"}}) == doctest::Approx(0.4));
  CHECK(with({{"lr_base_size", 4096}}) == doctest::Approx(0.05));
  CHECK(with({{"lr", 0.03}}) == 0.03);
  CHECK(contains(refused({{"lr_base_scale", "log"}}), "--lr-base-scale: expected sqrt or linear"));
  CHECK(contains(refused({{"lr_base_size", 0}}), "--lr-base-size"));
}

TEST_CASE("options: those of the optimizer; of older versions, which lacked them, the defaults") {
  const AdamWSettings usual = train::optimizer_settings(given(kNothing)), none;
  CHECK(usual.beta1 == none.beta1);
  CHECK(usual.beta2 == none.beta2);
  CHECK(usual.eps == none.eps);
  CHECK(usual.clip_norm() == 0);
  const AdamWSettings s = train::optimizer_settings(given({{"opt_eps", 1e-6},
                                                           {"opt_betas", {0.8, 0.95}},
                                                           {"weight_decay", 0.1},
                                                           {"clip_grad", 2.0},
                                                           {"clip_mode", "value"}}));
  CHECK(s.beta1 == 0.8);
  CHECK(s.beta2 == 0.95);
  CHECK(s.eps == 1e-6);
  CHECK(s.weight_decay == 0.1);
  CHECK(s.clip_norm() == 0);
  CHECK(s.clip_value() == 2);
  auto older = train::to_json(given(kNothing));
  for (const char* key : {"opt_eps", "opt_betas", "clip_mode", "sched_on_updates", "warmup_prefix",
                          "model_ema_warmup", "eval_metric"})
    older.erase(key);
  const auto resumed = train::changes(older, train::to_json(given(kNothing)));
  CHECK(resumed.refused + resumed.noted == "");
  CHECK(train::total_epochs(given(kNothing)) == 310);
  CHECK(train::total_epochs(given({{"warmup_prefix", true}})) == 330);
}

TEST_CASE("options: a warm-up that was not asked for fits into any run") {
  const auto warmup = [](int64_t epochs) {
    return train::warmup_epochs(given({{"epochs", epochs}}));
  };
  CHECK(warmup(300) == 20);
  CHECK(warmup(21) == 20);
  CHECK(warmup(20) == 1);
  CHECK(warmup(10) == 1);
  CHECK(warmup(2) == 1);
  CHECK(warmup(1) == 0);
  for (int64_t epochs = 1; epochs < 30; ++epochs) test::validate(given({{"epochs", epochs}}));
}

TEST_CASE("options: as many loading threads as cores, 2 to 8, where --workers says none") {
  CHECK(train::loading_threads(given({{"workers", 0}})) == 0);
  CHECK(train::loading_threads(given({{"workers", 20}})) == 20);
  CHECK(train::loading_threads({}) == std::clamp(usable_cores().usable, 2, 8));
}

TEST_CASE("options: args.json holds what was given, and apart from it what was decided") {
  const Options asked = given({{"batch_size", 4}, {"img_size", 64}});
  Options used = asked;
  used.num_classes = 10, used.model_ema_decay = 0, used.drop_path = 0.1, used.crop_pct = 0.9;
  used.dtype = "f32", used.lr = 1e-3, used.warmup_epochs = 20, used.threads = 2;
  const nlohmann::json args = train::args_json(asked, train::to_json(used));
  for (const char* key : {"num_classes", "model_ema_decay", "drop_path", "crop_pct", "lr",
                          "warmup_epochs", "threads", "resume", "dry_run"})
    CHECK_MESSAGE(!args.contains(key), key);
  CHECK(args["dtype"] == "auto");
  CHECK(args["resolved"]["dtype"] == "f32");
  CHECK(args["resolved"]["model_ema_decay"] == 0.0);
  CHECK(args["img_size"] == 64);
  CHECK_FALSE(args["resolved"].contains("img_size"));
  Options again;
  train::apply_json(again, args, "args.json");
  CHECK(train::to_json(again) == train::to_json(asked));

  // The report shows what is used, and marks what was asked for.
  for (const auto& row : train::settings(used, asked, setups::default_options(used.model))) {
    CAPTURE(row.name);
    CHECK(row.changed == (row.name == "batch-size" || row.name == "img-size"));
    if (row.name == "model-ema-decay") CHECK(row.value == "0.0");
  }
}

TEST_CASE("options: what says how one process starts is in no file, nor in the command to go on") {
  Options o = setups::default_options("sgformer_nano");
  const auto as_it_was = train::without_start_options(train::to_json(o));
  o.resume = "auto", o.accept_data_change = true, o.dry_run = true;
  CHECK(train::without_start_options(train::to_json(o)) == as_it_was);
  const nlohmann::json args = train::args_json(o, as_it_was);
  for (const char* key : {"resume", "accept_data_change", "dry_run"}) CHECK(!args.contains(key));

  const std::vector<std::string> command{
      "sgtrain", "--resume",   "F",   "--accept-data-change", "--dry-run=true", "-b",
      "8",       "--resume=G", "data"};
  CHECK(train::without_start_options(command) ==
        std::vector<std::string>{"sgtrain", "-b", "8", "data"});
}
