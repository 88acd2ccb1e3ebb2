// A device that is not there: the programs of a CUDA build on a machine without a GPU, and those
// of a build without CUDA.
#include <doctest/doctest.h>

#include "tests/tools/programs.h"

namespace sg {

TEST_CASE("programs: asked for a card that does not exist, they say so and end with 2") {
  const test::TemporaryFolder folder;
  const std::string file = (folder / "nano.safetensors").string();
  test::save_as_weights(*test::nano(), file);
  for (const std::string& command :
       {std::string("sgbench --model sgformer_nano"), "sgtrain --data " + folder.path().string(),
        "sgeval --data . --model sgformer_nano --checkpoint " + file,
        "sgpredict --model sgformer_nano --checkpoint " + file + " x.png",
        "golden_check " + file}) {
    CAPTURE(command);
    const auto ran = test::run_program(command + " --device cuda:63");
    CHECK(ran.code == 2);
    CHECK(ran.err.find("device cuda:63: ") != std::string::npos);
    CHECK(ran.err.find("use ") != std::string::npos);  // what to do
  }
  CHECK(test::run_program("sgbench --model sgformer_nano --dtype bf16").code == 2);
}

TEST_CASE("programs: with SG_REQUIRE_CUDA none computes on the CPU, and each says why") {
  const test::TemporaryFolder folder;
  const std::string file = (folder / "nano.safetensors").string();
  test::save_as_weights(*test::nano(), file);
  struct Required {
    Required() { ::setenv("SG_REQUIRE_CUDA", "1", 1); }
    ~Required() { ::unsetenv("SG_REQUIRE_CUDA"); }
  };
  for (const std::string& command :
       {std::string("sgbench --model sgformer_nano --batch 1 --repeats 1"),
        "sgtrain --data " + folder.path().string(),
        "sgeval --data . --model sgformer_nano --checkpoint " + file,
        "sgpredict --model sgformer_nano --checkpoint " + file + " x.png",
        "golden_check " + file}) {
    CAPTURE(command);
    const Required required;
    const auto ran = test::run_program(command);
    CHECK(ran.code == 2);
    CHECK(test::contains(ran.err, "SG_REQUIRE_CUDA is set"));
    CHECK(test::contains(ran.err, "--device cuda"));
  }
  CHECK(test::run_program("sgbench --model sgformer_nano --batch 1 --repeats 1").code == 0);
}

}  // namespace sg
