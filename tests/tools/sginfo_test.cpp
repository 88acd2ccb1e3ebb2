#include <cmath>

#include "tests/tools/programs.h"

namespace sg {

using test::contains, test::run_program;

TEST_CASE("sginfo: S has the published size") {
  const auto ran = run_program("sginfo sgformer_s --json");
  REQUIRE(ran.code == 0);
  const nlohmann::json j = ran.json();
  CHECK(j["parameters"] == 22'545'981);
  CHECK(1e-9 * j["macs"].get<double>() == doctest::Approx(4.784).epsilon(1e-4));
  double macs = 0;
  int64_t parameters = 0;
  for (const auto& layer : j["layers"]) {
    macs += layer["macs"].get<double>();
    parameters += layer["parameters"].get<int64_t>();
  }
  CHECK(macs == j["macs"].get<double>());
  CHECK(parameters == 22'545'981);
}

TEST_CASE("sginfo: a row per block, or a row per layer, at any size") {
  const auto blocks = run_program("sginfo sgformer_nano --img-size 40x56");
  CHECK(blocks.code == 0);
  CHECK(contains(blocks.out, "(1, 20, 28, 24)"));
  CHECK_FALSE(contains(blocks.out, "block1.0.mlp.fc1"));
  CHECK(contains(run_program("sginfo sgformer_nano --all").out, "block1.0.mlp.fc1"));
}

TEST_CASE("sginfo: an unknown model, flag or size is a usage error that names the nearest") {
  const auto model = run_program("sginfo sgformer_ss");
  CHECK(model.code == 2);
  CHECK(contains(model.err, "did you mean 'sgformer_s'?"));
  const auto flag = run_program("sginfo --img-sise 64");
  CHECK(flag.code == 2);
  CHECK(contains(flag.err, "did you mean '--img-size'?"));
  CHECK(run_program("sginfo sgformer_nano --img-size 0").code == 2);
}

TEST_CASE("sginfo: a checkpoint knows its model") {
  const test::TemporaryFolder folder;
  const auto model = test::nano();
  test::save_as_checkpoint(*model, folder / "run.safetensors");
  const auto ran = run_program(
      fmt::format("sginfo --json --checkpoint {}/run.safetensors", folder.path().string()));
  REQUIRE(ran.code == 0);
  CHECK(ran.json()["classes"] == 3);
  CHECK(ran.json()["parameters"] == model->parameters().count());
  CHECK(ran.json()["checkpoint"]["step"] == 12);

  test::save_as_weights(*model, folder / "weights.safetensors");
  const auto plain = run_program(
      fmt::format("sginfo --checkpoint {}/weights.safetensors", folder.path().string()));
  CHECK(plain.code == 2);
  CHECK(contains(plain.err, "weights alone"));
  const auto named = run_program(fmt::format(
      "sginfo sgformer_nano --json --checkpoint {}/weights.safetensors", folder.path().string()));
  REQUIRE(named.code == 0);
  CHECK(named.json()["classes"] == 3);
  CHECK(contains(named.err, "the weights (none are averaged)"));
  CHECK(contains(named.err, "no class names"));
  CHECK(run_program("sginfo sgformer_nano --ema").code == 2);

  std::filesystem::create_directories(folder / "run/checkpoints");
  test::save_as_checkpoint(*model, folder / "run/checkpoints/best.safetensors");
  const auto of_run =
      run_program(fmt::format("sginfo --json --checkpoint {}/run", folder.path().string()));
  REQUIRE_MESSAGE(of_run.code == 0, of_run.err);
  CHECK(of_run.json()["checkpoint"]["step"] == 12);
  // Bytes that are no UTF-8 reach no terminal.
  const auto odd = run_program("sginfo --checkpoint 'nowhere_\xe9'");
  CHECK(odd.code == 4);
  CHECK_MESSAGE(contains(odd.err, "nowhere_\\xe9"), odd.err);
}

TEST_CASE("sginfo: segmentors, by head, from a name or a file") {
  // A sixteenth of the 512 x 2048 pixels that papers count: there the specification has 842 GMAC
  // for UperNet's head and 86 for Semantic FPN with its neck. Grids of pooling stay as large.
  for (const auto& [head, parameters, gmac] :
       {std::tuple{"semantic_fpn", 26'283'243, 86.0}, {"upernet", 52'340'609, 842.0}}) {
    const auto ran =
        run_program(fmt::format("sginfo sgformer_s --head {} --img-size 128x512 --json", head));
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    const nlohmann::json j = ran.json();
    CHECK(j["parameters"] == parameters);
    CHECK(j["classes"] == 150);
    double macs = 0;
    for (const auto& layer : j["layers"]) {
      const std::string name = layer["name"];
      if (name.starts_with("neck.") || name.starts_with("decode_head."))
        macs += (name == "decode_head.psp_modules" ? 1 : 16) * layer["macs"].get<double>();
    }
    CHECK(std::abs(1e-9 * macs - gmac) < 0.5);
  }
  const auto rows = run_program("sginfo sgformer_nano --head upernet --num-classes 7");
  REQUIRE(rows.code == 0);
  for (const char* part : {"sgformer_nano with upernet, 7 classes", "backbone.block1.0",
                           "decode_head.fpn_convs", "of the auxiliary head"})
    CHECK_MESSAGE(contains(rows.out, part), rows.out);
  CHECK_FALSE(contains(rows.out, "decode_head.fpn_convs.0"));
  CHECK(contains(run_program("sginfo sgformer_nano --head uper").err, "head 'uper' is unknown"));

  const test::TemporaryFolder folder;
  const auto model = test::nano_segmentor();
  test::save_as_checkpoint(*model, folder / "run.safetensors");
  const auto of_file = run_program(
      fmt::format("sginfo --json --checkpoint {}/run.safetensors", folder.path().string()));
  REQUIRE_MESSAGE(of_file.code == 0, of_file.err);
  CHECK(of_file.json()["parameters"] == model->parameters().count());
  CHECK(of_file.json()["classes"] == 3);
  CHECK(run_program(fmt::format("sginfo --head upernet --checkpoint {}/run.safetensors",
                                folder.path().string()))
            .code == 2);
}

}  // namespace sg
