// Whole runs of the programs on a GPU. That they train, and what they write, is tested on the CPU
// (sgtrain_test.cpp); here that a GPU gives the same, and the same bits each time.
#include <signal.h>

#include "io/checkpoint.h"
#include "tests/tools/runs.h"

namespace sg {

namespace fs = std::filesystem;
using namespace test;

TEST_CASE("sgtrain on cuda: the same bits again, recorded or operation by operation") {
  if (!have_gpu()) return;
  const TemporaryFolder folder;
  write_idx(folder / "data", 32, 12);
  const auto train = [&](const std::string& name, const std::string& flags) {
    const auto ran = run_program(sgtrain(folder / "data", folder / name, "--device cuda " + flags));
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    CHECK_MESSAGE(contains(ran.out, "computing on cuda:0: "), ran.out);
    return ran;
  };
  const auto same = [&](const std::string& a, const std::string& b) {
    CHECK(last_tensors(folder / a) == last_tensors(folder / b));
    CHECK(numbers(folder / a) == numbers(folder / b));
  };
  CHECK(contains(train("recorded", "").out, "; bf16\n"));
  train("again", ""), same("again", "recorded");
  train("eager", "--eager"), same("eager", "recorded");
  CHECK(contains(train("f32", "--dtype f32").out, "; f32\n"));
  train("f32_eager", "--dtype f32 --eager"), same("f32_eager", "f32");
  CHECK(numbers(folder / "f32") != numbers(folder / "recorded"));
  const std::string s = "--model sgformer_s --img-size 224 --max-steps 4 ";
  train("s", s), train("s_eager", s + "--eager"), same("s_eager", "s");
  CHECK(fs::exists(folder / "recorded" / "report.html"));

  // sgeval finds what the run found at its end.
  const auto evaluated = run_program(fmt::format(
      "sgeval --data {} --checkpoint {} -b 8 --json --device cuda", (folder / "data").string(),
      (folder / "recorded" / "checkpoints/last.safetensors").string()));
  REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
  const auto j = evaluated.json();
  CHECK(j["images"] == 12);
  CHECK(contains(read_file(folder / "recorded" / "summary.csv"),
                 fmt::format(",{},{}\n", j["top1"].dump(), j["top5"].dump())));
}

TEST_CASE("sgtrain on cuda: stopped by a signal, it goes on with the same bits") {
  if (!have_gpu()) return;
  const TemporaryFolder folder;
  const fs::path data = folder / "data", whole = folder / "whole", out = folder / "out";
  write_idx(data, 64, 8);
  const std::string flags = "--device cuda --epochs 40 --resume auto";
  const pid_t child = start_program(sgtrain(data, out, flags));
  REQUIRE(wait_for_text(out / "train.log", "Train: "));
  ::kill(child, SIGTERM);
  REQUIRE(finish(child) == 75);
  const auto step = checkpoint_state(out / "checkpoints/last.safetensors")["step"].get<int>();
  const std::string to = fmt::format("{} --max-steps {}", flags, step + 3);
  CHECK(run_program(sgtrain(data, out, to)).code == 0);
  CHECK(run_program(sgtrain(data, whole, to)).code == 0);
  CHECK(last_tensors(out) == last_tensors(whole));
  CHECK(numbers(out) == numbers(whole));
}

}  // namespace sg
