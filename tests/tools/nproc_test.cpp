// sgtrain as a launcher, of two ranks; tests/dist has more of the launcher itself.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <fstream>

#include "tests/support/process.h"
#include "tests/tools/runs.h"

namespace sg {
using namespace sg::test;
namespace fs = std::filesystem;

namespace {

// sgtrain --nproc-per-node 2 in the background.
pid_t start_launcher(const std::string& command, const fs::path& err) {
  return start_program(command + " --nproc-per-node 2", err);
}

std::array<pid_t, 2> ranks_of(pid_t launcher) {
  const std::vector<pid_t> ranks = children_of(launcher);
  REQUIRE(ranks.size() == 2);
  return {ranks[0], ranks[1]};
}

bool ends_in_time(pid_t pid) {
  for (int i = 0; i < 1000 && is_running(pid); ++i) ::usleep(10'000);
  return !is_running(pid);
}

}  // namespace

TEST_CASE("sgtrain --nproc-per-node: a rank that is killed is started again, with the same bits") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out", err = folder / "err";
  write_idx(data, 128, 8);
  const pid_t launcher =
      start_launcher(sgtrain(data, out, "--recovery-interval 2 --max-restarts 1"), err);
  REQUIRE(wait_for_text(out / "train.log", "Train: 0 [4/8"));
  const pid_t rank = ranks_of(launcher)[1];
  std::string name;  // in ps
  std::ifstream(fmt::format("/proc/{}/comm", rank)) >> name;
  CHECK(name == "sgtrain");
  ::kill(rank, SIGKILL);
  CHECK(finish(launcher) == 0);
  const std::string said = read_file(err);
  CHECK(contains(said, fmt::format("process {}) was killed by SIGKILL", rank)));
  CHECK(contains(said, "last.safetensors, restart 1 of 1"));
  CHECK(contains(read_file(out / "train.log"), "resuming from "));
  CHECK(run_program(sgtrain(data, folder / "whole", "--nproc-per-node 2")).code == 0);
  CHECK(last_tensors(out) == last_tensors(folder / "whole"));
  CHECK(numbers(out) == numbers(folder / "whole"));
}

TEST_CASE("sgtrain --nproc-per-node: a signal saves and ends; killed, it leaves no rank") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out", err = folder / "err";
  write_idx(data, 128, 8);
  const std::string command = sgtrain(data, out, "--epochs 40 --max-restarts 3 --resume auto");
  pid_t launcher = start_launcher(command, err);
  REQUIRE(wait_for_text(out / "train.log", "Train: 0 [2/8"));
  // Slurm may signal all processes of a job, and its srun pass the same on. Those, and what the
  // launcher sends, are one.
  const std::array<pid_t, 2> first = ranks_of(launcher);
  for (const pid_t pid : {launcher, first[0], first[1], launcher}) {
    ::kill(pid, SIGUSR1);
    ::usleep(1000);  // it is taken before the next one comes
  }
  CHECK(finish(launcher) == 75);
  CHECK(!contains(read_file(err), "start again"));
  const std::string log = read_file(out / "train.log");
  CHECK(contains(log, "go on by: "));
  launcher = start_launcher(command, err);
  REQUIRE(wait_for_text(out / "train.log", "Train: ", log.size()));
  const std::array<pid_t, 2> ranks = ranks_of(launcher);
  ::kill(launcher, SIGKILL);
  CHECK(finish(launcher) == 128 + SIGKILL);
  for (const pid_t rank : ranks) CHECK(ends_in_time(rank));
}

TEST_CASE("sgtrain --nproc-per-node: the folder has one name; a try writes nothing") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const auto shell = [&](const std::string& more) {
    const std::string line = fmt::format(
        "cd {} && {} --device cpu --data data --model sgformer_nano --epochs 1 -b 8 "
        "--nproc-per-node 2 {} >out 2>err",
        folder.path().string(), program("sgtrain"), more);
    const int status = std::system(line.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  CHECK(shell("--dry-run") == 0);
  CHECK(contains(read_file(folder / "out"), "nothing was written"));
  CHECK(!fs::exists(folder / "output"));
  CHECK(shell("") == 0);
  CHECK(contains(read_file(folder / "out"), "done: "));
  CHECK(!contains(read_file(folder / "err"), "error"));
  const std::string name = fs::directory_iterator(folder / "output/train")->path().filename();
  CHECK(name.ends_with("-sgformer_nano-28"));
  const auto args = nlohmann::json::parse(read_file(folder / "output/train" / name / "args.json"));
  CHECK(args["output"] == "output/train/" + name);

  for (const char* ends : {"--help", "--version"}) CHECK(shell(ends) == 0);
  CHECK(shell("--nproc-per-node 0") == 2);
  CHECK(contains(read_file(folder / "err"), "error: --nproc-per-node: expected a number"));
  CHECK(shell("--nproc-per-node \"$NOT_SET\"") == 2);
  CHECK(contains(read_file(folder / "err"), "or gpu, found nothing"));
  CHECK(shell("--epochs -1") == 2);
  CHECK(!contains(read_file(folder / "err"), "rank"));  // said once, before any is started
  CHECK(shell("--data nowhere") == 3);                  // what a rank finds
  CHECK(contains(read_file(folder / "err"), ") ended with exit code 3 (data)"));
  const std::string foreign = fmt::format(
      "RANK=0 WORLD_SIZE=8 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 {} --data d --nproc-per-node 2 2>{}",
      program("sgtrain"), (folder / "err").string());
  CHECK(WEXITSTATUS(std::system(foreign.c_str())) == 2);
  CHECK(contains(read_file(folder / "err"), "torchrun has started 8 processes already"));
}

TEST_CASE("docs/sgtrain.sbatch: what was interrupted and saved is queued again, with all flags") {
  const TemporaryFolder folder;
  const auto stand_in = [&](const char* name, const std::string& script) {
    put(folder / name, "#!/bin/sh\n" + script);
    fs::permissions(folder / name, fs::perms::owner_all);
  };
  const auto script = [&](int code, const char* run = "RUN=run") {
    stand_in("srun", fmt::format("echo $MASTER_ADDR:$MASTER_PORT $*; exit {}\n", code));
    stand_in("scontrol", "echo first; echo second; echo scontrol $* >&2\n");
    const std::string line = fmt::format(
        "cd {} && PATH=$PWD:$PATH SLURM_JOB_ID=12345 SLURM_JOB_NODELIST='n[1-2]' "
        "SLURM_CPUS_PER_TASK=12 DATA='my images' {} bash {}/docs/sgtrain.sbatch >out 2>err",
        folder.path().string(), run, SG_SOURCE_DIR);
    return WEXITSTATUS(std::system(line.c_str()));
  };
  CHECK(script(75) == 75);
  CHECK(contains(read_file(folder / "out"), "first:22345 --cpus-per-task=12 "));
  CHECK(contains(read_file(folder / "out"), " sgtrain --data my images --model "));
  CHECK(contains(read_file(folder / "err"), "scontrol requeue 12345\n"));
  CHECK(script(0) == 0);
  CHECK(script(5) == 5);
  CHECK(!contains(read_file(folder / "err"), "requeue"));
  CHECK(script(75, "RUN=") != 75);
  CHECK(contains(read_file(folder / "err"), "RUN: is not set: the folder of the run"));
  CHECK(read_file(folder / "out") == "");
}

TEST_CASE("sgtrain --nproc-per-node: GPUs that are not there") {
  const auto refused = [](const std::string& flags) {
    const int status = std::system(("CUDA_VISIBLE_DEVICES= " + program("sgtrain --data d ") +
                                    flags + " >/dev/null 2>/dev/null")
                                       .c_str());
    return WEXITSTATUS(status);
  };
  CHECK(refused("--nproc-per-node gpu") == 2);
  CHECK(refused("--nproc-per-node 2 --device cuda") == 2);
  const auto said = run_program("sgtrain --data d --device cpu --nproc-per-node gpu");
  CHECK(said.code == 2);
  CHECK(contains(said.err, "counts GPUs"));
}

}  // namespace sg
