// A run as a scheduler and a crowded disk treat it: started again and again by one command, stopped
// by signals, beside files of others.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/checkpoint.h"
#include "tests/support/process.h"
#include "tests/tools/runs.h"
#include "tools/common/cli.h"

namespace sg {
using namespace sg::test;
namespace fs = std::filesystem;

namespace {

// In a shell, after `before`, such as a limit.
Ran run_after(const std::string& before, const std::string& command) {
  const TemporaryFolder folder;
  const fs::path out = folder / "out", err = folder / "err";
  const int status = std::system(
      fmt::format("{}; {} >{} 2>{}", before, program(command), out.string(), err.string()).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(out),
          read_file(err)};
}

// The rest of the last line that holds `begin`.
std::string after(const std::string& text, const std::string& begin) {
  const size_t at = text.rfind(begin);
  if (at == std::string::npos) return "";
  return text.substr(at + begin.size(), text.find('\n', at) - at - begin.size());
}

}  // namespace

TEST_CASE("sgtrain: one command begins from weights and goes on, whatever it finds") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out", whole = folder / "whole";
  const fs::path weights = folder / "w.safetensors";
  write_idx(data, 32, 8);
  save_as_weights(*nano(), weights);
  const std::string job =
      fmt::format("--initial-checkpoint {} --reset-head --resume auto ", weights.string());
  const auto first = run_program(sgtrain(data, out, job + "--max-steps 3"));
  REQUIRE_MESSAGE(first.code == 0, first.err);
  CHECK(contains(first.out, weights.string() + ": the "));
  fs::remove(weights);  // it is not needed again
  const auto second = run_program(sgtrain(data, out, job));
  REQUIRE_MESSAGE(second.code == 0, second.err);
  CHECK(contains(second.out, "step 3\n"));
  CHECK(contains(second.out, "is not read: the run goes on"));

  save_as_weights(*nano(), weights);
  CHECK(run_program(sgtrain(data, whole, job)).code == 0);
  CHECK(last_tensors(out) == last_tensors(whole));

  // By args.json alone.
  const auto config = run_program(
      fmt::format("sgtrain --config {}/args.json --resume auto --epochs 3", out.string()));
  CHECK_MESSAGE(config.code == 0, config.err);
  CHECK(contains(config.out, "step 8\n"));
}

TEST_CASE("sgtrain: --resume auto needs a folder") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const auto ran = run_program(fmt::format("sgtrain --data {} --model sgformer_nano --resume auto",
                                           (folder / "data").string()));
  CHECK(ran.code == 2);
  CHECK(contains(ran.err, "--resume auto: --output is missing"));
}

TEST_CASE("sgtrain: the command that it prints goes on, in a folder with spaces too") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "my runs");
  write_idx(folder / "my runs/data", 512, 8);
  const std::string flags =
      "sgtrain --device cpu --data data --model sgformer_nano -b 8 --epochs 1 --threads 1 "
      "--log-interval 1";
  const std::string in_folder = fmt::format("cd '{}'; exec ", (folder / "my runs").string());
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string line = in_folder + program(flags) + " >said 2>&1";
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  REQUIRE(wait_for_text(folder / "my runs/said", "Train: "));
  ::kill(child, SIGUSR2);
  CHECK(finish(child) == 75);
  const std::string command = after(read_file(folder / "my runs/said"), "go on by: ");
  CHECK(contains(command, "--output output/train/"));
  CHECK(std::system((in_folder + command + " --max-steps 3 >again 2>&1").c_str()) == 0);
  CHECK(contains(read_file(folder / "my runs/again"), "resuming from output/train/"));
  // What is said of a folder that holds a run works too.
  const std::string quoted = "'" + (folder / "a b").string() + "'";
  fs::rename(folder / "my runs/data", folder / "data");
  CHECK(run_program(sgtrain(folder / "data", quoted, "--max-steps 1")).code == 0);
  const auto refused = run_program(sgtrain(folder / "data", quoted, "--max-steps 1"));
  CHECK(refused.code == 2);
  const std::string advice = after(refused.err, "go on with it: ");
  CHECK(contains(advice, "--output " + quoted));
  CHECK(std::system((advice + " >/dev/null 2>&1").c_str()) == 0);
}

TEST_CASE("sgtrain: SIGHUP saves, and is ignored under nohup") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data";
  write_idx(data, 512, 8);
  const pid_t child = start_program(sgtrain(data, folder / "a"));
  REQUIRE(wait_for_text(folder / "a/train.log", "Train: "));
  ::kill(child, SIGHUP);
  CHECK(finish(child) == 75);
  ::signal(SIGHUP, SIG_IGN);
  const pid_t nohup = start_program(sgtrain(data, folder / "b"));
  ::signal(SIGHUP, SIG_DFL);
  REQUIRE(wait_for_text(folder / "b/train.log", "Train: 0 ["));
  ::kill(nohup, SIGHUP);
  REQUIRE(wait_for_text(folder / "b/train.log", "Train: 0 [ 4/"));
  ::kill(nohup, SIGTERM);
  CHECK(finish(nohup) == 75);
}

TEST_CASE("sgtrain: --initial-checkpoint of a run's folder is its best checkpoint") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  REQUIRE(run_program(sgtrain(folder / "data", folder / "a", "--epochs 1")).code == 0);
  const auto ran = run_program(sgtrain(
      folder / "data", folder / "b", "--epochs 1 --initial-checkpoint " + (folder / "a").string()));
  CHECK(ran.code == 0);
  CHECK(contains(ran.out, "a/checkpoints/best.safetensors: the "));
  CHECK(run_program("sginfo --checkpoint " + (folder / "a").string()).code == 0);
  CHECK(run_program(
            fmt::format("sgconvert {} {}", (folder / "a").string(), (folder / "w.pth").string()))
            .code == 0);
}

TEST_CASE("sgtrain: files of others in its folder are refused, and stay") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  fs::create_directories(folder / "out");
  put(folder / "out/metrics.jsonl", "{\"loss\": 1}\n");
  put(folder / "out/events.out.tfevents.1.host", "of somebody");
  const auto ran = run_program(sgtrain(folder / "data", folder / "out", "--resume auto"));
  CHECK(ran.code == 2);
  CHECK(contains(ran.err, "metrics.jsonl; move them away"));
  CHECK_FALSE(contains(ran.out, "Train: "));
  CHECK(read_file(folder / "out/metrics.jsonl") == "{\"loss\": 1}\n");
  fs::remove(folder / "out/metrics.jsonl");
  CHECK(run_program(sgtrain(folder / "data", folder / "out", "--resume auto")).code == 0);
  CHECK(read_file(folder / "out/events.out.tfevents.1.host") == "of somebody");
}

TEST_CASE("sgtrain: checkpoints gone, logs kept: the rows are kept too") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const fs::path out = folder / "out";
  REQUIRE(run_program(sgtrain(folder / "data", out)).code == 0);
  const std::string rows = read_file(out / "metrics.jsonl");
  fs::remove_all(out / "checkpoints");
  CHECK(run_program(sgtrain(folder / "data", out, "--resume auto --max-steps 1")).code == 0);
  CHECK(read_file(out / "metrics.cut.jsonl") == rows);
}

TEST_CASE("sgtrain: a report that cannot be written does not end the run") {
  const TemporaryFolder folder;
  const fs::path out = folder / "out";
  write_idx(folder / "data", 512, 8);
  const pid_t child = start_program(sgtrain(folder / "data", out, "--epochs 1"));
  REQUIRE(wait_for_text(out / "train.log", "Train: 0 ["));
  fs::create_directories(out / "report.html/in the way");
  CHECK(finish(child) == 0);
  const std::string log = read_file(out / "train.log");
  CHECK(contains(log, "report.html: cannot be renamed"));
  CHECK(contains(log, "the run goes on"));
  CHECK(contains(log, "incomplete: report.html: " + (out / "report.html").string()));
  CHECK(fs::exists(out / "checkpoints/checkpoint-0000.safetensors"));
}

TEST_CASE("sgtrain: a run that fails says too which of its logs are incomplete") {
  const TemporaryFolder folder;
  const fs::path out = folder / "out";
  write_idx(folder / "data", 512, 8);
  const pid_t child = start_program(sgtrain(folder / "data", out, "--epochs 2"));
  REQUIRE(wait_for_text(out / "train.log", "Train: 0 ["));
  fs::create_directories(out / "report.html/in the way");
  REQUIRE(wait_for_text(out / "train.log", "report.html: cannot be renamed"));
  fs::remove_all(out / "checkpoints");
  CHECK(finish(child) == 4);
  CHECK(contains(read_file(out / "train.log"), "incomplete: report.html: "));
}

TEST_CASE(
    "sgtrain: a limit of the size of files is an error of the checkpoint, not the end by a "
    "signal") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const auto ran = run_after("ulimit -f 8000", sgtrain(folder / "data", folder / "out"));
  CHECK(ran.code == 4);
  CHECK(contains(ran.err, "checkpoint-0000.safetensors: cannot be written after"));
  CHECK(contains(ran.err, "File too large"));
}

TEST_CASE(
    "programs: standard output that cannot be written is an error, but not of a training run") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  save_as_checkpoint(*nano(), folder / "nano.safetensors");
  put(folder / "a.png", png_image(28, 28));
  const std::string model = fmt::format("--checkpoint {}", (folder / "nano.safetensors").string());
  for (const std::string& command :
       {std::string("sginfo sgformer_nano"), std::string("sginfo sgformer_nano --json"),
        std::string("sginfo --help"), std::string("sginfo --version"),
        fmt::format("sgpredict {} --device cpu {}", model, (folder / "a.png").string()),
        fmt::format("sgpredict {} --device cpu --json {}", model, (folder / "a.png").string())}) {
    CAPTURE(command);
    const fs::path err = folder / "err";
    const auto run_to = [&](const std::string& to) {
      const int status = std::system(fmt::format("(2>{} {}; echo $? >{}) {}", err.string(),
                                                 program(command), (folder / "code").string(), to)
                                         .c_str());
      CHECK(status == 0);
      return read_file(folder / "code");
    };
    CHECK(run_to(">/dev/full") == "1\n");
    CHECK(contains(read_file(err), "error: standard output: "));
    CHECK(run_to(">&-") == "1\n");
    CHECK(contains(read_file(err), "error: standard output: "));
    CHECK(run_to("| true") == "1\n");
    CHECK(contains(read_file(err), "error: standard output: "));
    CHECK(run_to(">/dev/null") == "0\n");
  }
  CHECK(std::system((program(sgtrain(folder / "data", folder / "out", "--max-steps 1")) +
                     " >/dev/full 2>/dev/null")
                        .c_str()) == 0);
}

TEST_CASE("programs: standard error that cannot be written leaves the exit code as it is") {
  const TemporaryFolder folder;
  const auto code = [&](const std::string& command, const char* to) {
    const int status = std::system((program(command) + " >/dev/null 2>" + to).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  };
  save_as_checkpoint(*nano(), folder / "nano.safetensors");
  put(folder / "a.png", png_image(28, 28));
  const std::string model = " --device cpu --checkpoint " + (folder / "nano.safetensors").string();
  for (const char* to : {"/dev/full", "&-"}) {
    CHECK(code("sginfo --nope", to) == 2);
    CHECK(code("sgpredict" + model + " " + (folder / "a.png").string(), to) == 0);
    CHECK(code("sgpredict" + model + " " + (folder / "none.png").string(), to) == 3);
    CHECK(code("sgeval --device cpu --data none --checkpoint " + (folder / "none").string(), to) ==
          4);
  }
}

TEST_CASE("programs: names that are no UTF-8 are escaped on standard error too") {
  const auto ran = run_program("sginfo --checkpoint $(printf 'no\\351ne')");
  CHECK(ran.code == 4);
  CHECK(contains(ran.err, "no\\xe9ne"));
}

TEST_CASE("programs: too little address space is said at once") {
  for (const char* command : {"sginfo sgformer_nano", "sgtrain --help", "sgpredict --version"}) {
    const auto ran = run_after("ulimit -v 450000", command);
    CHECK(ran.code == 1);
    CHECK(contains(ran.err, "may use 439 MiB of address space; SG-Former needs at least"));
  }
}

TEST_CASE("programs: where no further thread can be started, it is said what to do") {
  const TemporaryFolder folder;
  const fs::path err = folder / "err";
  const pid_t child = start_child([&] {
    ::dup2(::open(err.c_str(), O_CREAT | O_WRONLY, 0600), STDERR_FILENO);
    return tools::run([]() -> ExitCode {  // as std::thread does under ulimit -u
      throw std::system_error(EAGAIN, std::generic_category());
    });
  });
  CHECK(wait_for(child) == 1);
  CHECK(contains(read_file(err),
                 "error: Resource temporarily unavailable: no further thread can "
                 "be started; raise the limit of processes (ulimit -u"));
}

TEST_CASE("restart: the checkpoint that is read is not counted against the memory of a step") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  constexpr int64_t kElements = 64 << 20;
  save_checkpoint(folder / "large.safetensors",
                  {{{"w", zeros({kElements})}}, {{"step", 1}, {"epoch", 0}}});
  // No memory is taken for so large a batch: the run ends before, and says what is available.
  const auto available = [&](const std::string& more) {
    const Ran ran = run_after("ulimit -v 4194304", sgtrain(folder / "data", folder / "out",
                                                           "--batch-size 1048576 " + more));
    REQUIRE_MESSAGE(contains(ran.err, " are available"), ran.err);
    const size_t end = ran.err.find(" are available");
    return std::stod(ran.err.substr(ran.err.rfind(' ', end - 1)));
  };
  const double fresh = available("");
  CHECK(available("--resume " + (folder / "large.safetensors").string()) > fresh - kElements);
}

}  // namespace sg
