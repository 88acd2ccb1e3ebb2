// A device that is not there: the programs of a CUDA build on a machine without a GPU, and those
// of a build without CUDA.
#include <doctest/doctest.h>

#include "tests/support/environment.h"
#include "tests/tools/runs.h"

namespace sg {

TEST_CASE("programs: asked for a GPU that does not exist, they say so and end with 2") {
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
}

namespace {

// What computes, by the device that is usual.
std::vector<std::string> commands(const test::TemporaryFolder& folder) {
  const std::string file = (folder / "nano.safetensors").string();
  test::save_as_weights(*test::nano(), file);
  return {"sgbench --model sgformer_nano --batch 1 --repeats 1 --no-roofline --json",
          "sgtrain --data " + folder.path().string(),
          "sgeval --data . --model sgformer_nano --checkpoint " + file,
          "sgpredict --model sgformer_nano --checkpoint " + file + " x.png",
          "golden_check " + file};
}

}  // namespace

TEST_CASE("programs: with SG_REQUIRE_CUDA none computes on the CPU, and each says why") {
  const test::TemporaryFolder folder;
  for (const std::string& command : commands(folder)) {
    CAPTURE(command);
    const test::Environment required("SG_REQUIRE_CUDA", "1");
    const auto asked = test::run_program(command + " --device cpu");
    CHECK(asked.code == 2);
    CHECK(test::contains(asked.err, "SG_REQUIRE_CUDA is set, and this would compute on the cpu;"));
    CHECK(test::contains(asked.err, "--device cuda"));
    const test::Environment no_gpu("CUDA_VISIBLE_DEVICES", "");
    const auto found = test::run_program(command);
    CHECK(found.code == 2);
    CHECK(test::contains(found.err, "this would compute on the cpu ("));  // the reason
  }
  CHECK(test::run_program("sgbench --model sgformer_nano --batch 1 --repeats 1").code == 0);
}

TEST_CASE("programs: where there is no GPU, auto is the CPU, and a line says why") {
  const test::Environment no_gpu("CUDA_VISIBLE_DEVICES", "");
  const test::TemporaryFolder folder;
  test::write_idx(folder / "data", 16, 8);
  test::save_as_checkpoint(*test::nano(), folder / "run.safetensors");
  test::put(folder / "x.png", test::png_image(28, 28));
  const std::string data = (folder / "data").string(), file = (folder / "run.safetensors").string();
  for (const std::string& command :
       {std::string("sgbench --model sgformer_nano --batch 1 --repeats 1 --no-roofline"),
        "sgpredict --checkpoint " + file + " " + (folder / "x.png").string(),
        "sgeval --num-classes 3 --data " + data + " --checkpoint " + file}) {
    CAPTURE(command);
    const auto ran = test::run_program(command + " --json");
    CHECK(test::contains(ran.err, "computing on cpu: "));
    CHECK_FALSE(test::contains(ran.err, "computing on cpu: CPU"));  // but the reason
    CHECK_FALSE(test::contains(ran.out, "computing on"));
    CHECK(
        test::contains(test::run_program(command + " --device cpu").err, "computing on cpu: CPU"));
  }
  const auto dry = test::run_program("sgtrain --model sgformer_nano -b 8 --dry-run --data " + data);
  REQUIRE_MESSAGE(dry.code == 0, dry.err);
  CHECK(test::contains(dry.out, "computing on cpu: "));
  CHECK(test::contains(dry.out, "\"device\": \"auto\""));
}

TEST_CASE("programs: a shared flag has one range and one help text") {
  for (const char* program : {"sgtrain", "sgeval", "sgpredict", "sgbench"}) {
    CAPTURE(program);
    const auto help = test::run_program(fmt::format("{} --help", program));
    CHECK(test::contains(help.out, "\nModel:\n"));
    CHECK(test::contains(help.out, "\nRuntime:\n"));
    CHECK(test::contains(help.out, "threads that compute; default: the cores it may use"));
    CHECK(test::contains(help.out, "--device TEXT=auto"));
    CHECK(test::contains(help.out, "significance that guides: hybrid, local, global, uniform"));
    const std::string needed = std::string(program) == "sgeval"      ? "--data x --checkpoint x"
                               : std::string(program) == "sgpredict" ? "--checkpoint x x"
                               : std::string(program) == "sgtrain"   ? "--data x"
                                                                     : "";
    const auto ran = test::run_program(fmt::format("{} {} --threads 5000", program, needed));
    CHECK(ran.code == 2);
    CHECK(test::contains(ran.err, "--threads: expected from 1 to 4096, found 5000"));
  }
  const auto size = test::run_program("sginfo --img-size 0x32");
  CHECK(size.code == 2);
  CHECK(test::contains(size.err, "--img-size: expected from 1 to 8192, found 0"));
  CHECK(test::run_program("sginfo --img-size 32y32").code == 2);
}

}  // namespace sg
