#include "tools/golden/golden_images.h"

#include <doctest/doctest.h>

#include "io/safetensors.h"
#include "tests/support/files.h"
#include "tests/tools/programs.h"

using namespace sg;
using test::contains;

namespace {

// A copy of a golden file with one image or its metadata changed.
void write_changed(const Safetensors& file, const std::filesystem::path& path,
                   const std::string& changed, Metadata metadata) {
  std::vector<NamedTensor> tensors;
  for (const std::string& name : file.names()) {
    tensors.emplace_back(name, file.tensor(name).clone());
    if (name == changed) tensors.back().second.data<uint8_t>()[7] ^= 1;
  }
  write_safetensors(path, tensors, metadata);
}

}  // namespace

TEST_CASE("golden images: every augmentation and the evaluation chain, byte for byte") {
  const auto root = test::shared("golden");
  if (root.empty()) return;
  const auto augment = tools::check_golden_images(root / "augment/augment.safetensors");
  CHECK(augment.kind == "augment");
  CHECK(augment.equal >= 162);
  CHECK(augment.wrong.empty());
  CHECK(augment.not_checked.empty());
  const auto chain = tools::check_golden_images(root / "eval_chain/expected.safetensors");
  CHECK(chain.kind == "eval_chain");
  CHECK(chain.equal >= 4);
  CHECK(chain.wrong.empty());
  CHECK(!tools::is_golden_images(root / "modules/mlp.safetensors"));
  // Other rules under the same names.
  CHECK(!tools::is_golden_images(root / "dense/resize/photometric.safetensors"));
}

TEST_CASE("golden images: timm's own operations at odd sizes, and torchvision's color jitter") {
  const auto found =
      tools::check_golden_images(std::string(SG_TEST_DATA_DIR) + "/timm/augment.safetensors");
  CHECK(found.equal == 211);
  CHECK(found.wrong == std::vector<std::string>{});
  CHECK(found.not_checked == std::vector<std::string>{});
}

TEST_CASE(
    "golden images: one wrong byte is seen and named; an unknown operation is not passed over") {
  const auto path = test::shared("golden/augment/augment.safetensors");
  if (path.empty()) return;
  const auto file = Safetensors::open(path);
  const test::TemporaryFolder folder;
  write_changed(file, folder / "wrong.safetensors", "case.002", file.metadata());
  const auto wrong = tools::check_golden_images(folder / "wrong.safetensors");
  CHECK(!wrong.passed());
  REQUIRE(wrong.wrong.size() == 1);
  CHECK(contains(wrong.wrong[0],
                 "case.002 (Invert): 1 of 18624 bytes differ, first row 0, column 2, "
                 "channel 1"));
  const auto ran =
      test::run_program("golden_check --device cpu " + (folder / "wrong.safetensors").string());
  CHECK(ran.code == 1);
  CHECK(contains(ran.out, "161 images equal, 1 wrong, 0 not checked"));
  CHECK(contains(ran.out, "case.002 (Invert)"));

  Metadata metadata = file.metadata();
  metadata["case.002"] = R"({"input": 0, "op": "Cutout"})";
  write_changed(file, folder / "unknown.safetensors", "", metadata);
  const auto unknown = tools::check_golden_images(folder / "unknown.safetensors");
  CHECK(unknown.passed());
  CHECK(unknown.not_checked == std::vector<std::string>{"case.002 (Cutout)"});
  CHECK(unknown.equal == 161);

  metadata["case.002"] =
      R"({"input": 0, "op": "ColorJitter", "factors": [1, 1, 1], "order": [0, 1, 3]})";
  write_changed(file, folder / "order.safetensors", "", metadata);
  CHECK(contains(test::error_of(ExitCode::failure,
                                [&] { tools::check_golden_images(folder / "order.safetensors"); }),
                 "found 0, 1, 3"));

  for (const char* damaged : {R"({"input": 9, "op": "Invert"})", R"({"op": "Invert"})",
                              R"({"input": 0, "op": "Posterize"})", R"({"op": )"}) {
    metadata["case.002"] = damaged;
    write_changed(file, folder / "damaged.safetensors", "", metadata);
    CHECK(contains(
        test::error_of(ExitCode::checkpoint,
                       [&] { tools::check_golden_images(folder / "damaged.safetensors"); }),
        "damaged.safetensors"));
  }
}
