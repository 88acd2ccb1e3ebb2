#include "train/checkpoint_folder.h"

#include <cmath>
#include <csignal>
#include <random>
#include <set>

#include "tests/support/files.h"
#include "tests/support/process.h"

using namespace sg;
using namespace sg::test;
using namespace sg::train;
namespace fs = std::filesystem;

namespace {

const auto kNone = [](const Checkpoint&) { return false; };

Checkpoint at(int step, int64_t elements = 100) {
  return {{{"w", full({elements}, step)}}, {{"step", step}, {"epoch", step}}};
}

std::set<std::string> names(const fs::path& folder) {
  std::set<std::string> result;
  for (const auto& item : fs::directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    if (name != ".lock") result.insert(name);
  }
  return result;
}

int64_t step_of(const std::optional<Resumable>& r) {
  REQUIRE(r);
  const auto step = r->checkpoint.state["step"].get<int64_t>();
  CHECK(r->checkpoint.tensors.at(0).second.data<float>()[0] == float(step));
  return step;
}

// Changes one bit of the last tensor's last byte, under all names of the file.
void damage(const fs::path& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-1, std::ios::end);
  const int byte = file.get();
  file.seekp(-1, std::ios::end);
  file.put(char(byte ^ 1));
}

}  // namespace

TEST_CASE("the best and the newest are kept") {
  const TemporaryFolder out;
  const fs::path dir = out / "checkpoints";
  CHECK_FALSE(find_resumable(dir));
  CheckpointFolder folder(dir, 2);
  CHECK_FALSE(find_resumable(dir));
  put(dir / "exported.safetensors", "of no concern");
  const double metrics[] = {50, 70, 60, 10, 20};
  for (int i = 0; i < 5; ++i) folder.save(at(i + 1), metrics[i]);
  CHECK(names(dir) ==
        std::set<std::string>{"best.safetensors", "exported.safetensors", "last.safetensors",
                              "checkpoint-0002.safetensors", "checkpoint-0003.safetensors",
                              "checkpoint-0004.safetensors", "checkpoint-0005.safetensors"});
  CHECK(fs::equivalent(dir / "best.safetensors", dir / "checkpoint-0002.safetensors"));
  CHECK(fs::equivalent(dir / "last.safetensors", dir / "checkpoint-0005.safetensors"));
  CHECK(step_of(find_resumable(dir)) == 5);

  folder.save_recovery(at(6));
  CHECK(fs::equivalent(dir / "last.safetensors", dir / "recovery-00000006.safetensors"));
  CHECK(step_of(find_resumable(dir)) == 6);
  folder.save_recovery(at(7));
  folder.save_recovery(at(8));
  CHECK_FALSE(fs::exists(dir / "recovery-00000006.safetensors"));
  CHECK(fs::exists(dir / "recovery-00000007.safetensors"));
  CHECK_FALSE(fs::exists(dir / "checkpoint-0005.safetensors"));
}

TEST_CASE("of equal checkpoints the first is the best") {
  const TemporaryFolder out;
  CheckpointFolder folder(out.path(), 2);
  for (int i = 1; i < 5; ++i) folder.save(at(i), i == 1 ? 10 : 70);
  CHECK(fs::equivalent(out / "best.safetensors", out / "checkpoint-0002.safetensors"));
  CHECK_FALSE(fs::exists(out / "checkpoint-0001.safetensors"));
}

TEST_CASE("a run that went back to an older checkpoint goes on from there") {
  const TemporaryFolder out;
  {
    CheckpointFolder folder(out.path(), 1);
    for (int step : {100, 200, 300}) folder.save(at(step), step);
  }
  CheckpointFolder folder(out.path(), 1);
  folder.save(at(150), 1);
  CHECK(step_of(find_resumable(out.path())) == 150);
  // The best of the run as it goes now; the better one of the way it left is kept all the same.
  CHECK(fs::equivalent(out / "best.safetensors", out / "checkpoint-0150.safetensors"));
  CHECK(fs::exists(out / "checkpoint-0300.safetensors"));
}

TEST_CASE("a run that went back: of equal epochs the earlier one is the best") {
  const TemporaryFolder out;
  {
    CheckpointFolder folder(out.path());
    for (int step : {100, 200, 300}) folder.save(at(step), 50);
  }
  CheckpointFolder folder(out.path());
  folder.save(at(100), 50);  // saved last, and the first of the run
  folder.save(at(200), 50);
  CHECK(fs::equivalent(out / "best.safetensors", out / "checkpoint-0100.safetensors"));
}

TEST_CASE("a run that went back: the epochs it gave up take no place in its history, and stay") {
  const TemporaryFolder out;
  std::optional<CheckpointFolder> folder(std::in_place, out.path(), 2);
  for (int i = 1; i < 7; ++i) folder->save(at(i), i == 2 ? 90 : 50 + i);
  CHECK(fs::exists(out / "checkpoint-0006.safetensors"));
  CHECK(fs::exists(out / "checkpoint-0005.safetensors"));
  folder.reset();
  folder.emplace(out.path(), 2);
  folder->save(at(3), 30), folder->save(at(4), 20);  // after epoch 2
  for (int epoch : {2, 3, 4, 5, 6})
    CHECK(fs::exists(out / fmt::format("checkpoint-{:04}.safetensors", epoch)));
  CHECK(fs::equivalent(out / "best.safetensors", out / "checkpoint-0002.safetensors"));
  folder->save(at(5), 10), folder->save(at(6), 5);  // all is of this run again
  CHECK(names(out.path()) ==
        std::set<std::string>{"best.safetensors", "last.safetensors", "checkpoint-0002.safetensors",
                              "checkpoint-0003.safetensors", "checkpoint-0005.safetensors",
                              "checkpoint-0006.safetensors"});
}

TEST_CASE("without hard links: copies by further names are no further checkpoints") {
  const TemporaryFolder out;
  const auto unlink_all = [&] {
    for (const char* name : {"last.safetensors", "best.safetensors", "good.safetensors"}) {
      if (!fs::exists(out / name)) continue;
      fs::copy_file(out / name, out / "copy");
      fs::rename(out / "copy", out / name);
    }
  };
  {
    CheckpointFolder folder(out.path(), 2);
    const double metrics[] = {50, 40, 30, 20};
    for (int i = 0; i < 4; ++i) folder.save(at(i + 1), metrics[i]), unlink_all();
    for (int epoch : {1, 2, 3, 4})  // the best two, and the newest two
      CHECK(fs::exists(out / fmt::format("checkpoint-{:04}.safetensors", epoch)));
    folder.prove(4);
    unlink_all();
    folder.save(at(5), 10);
    unlink_all();
    CHECK(step_of(folder.fall_back(kNone)) == 4);  // the good one, which is a copy
  }
  CHECK(fs::exists(out / "checkpoint-0004.safetensors"));
  CHECK_FALSE(fs::exists(out / "checkpoint-0005.safetensors"));
  CHECK(step_of(find_resumable(out.path())) == 4);
}

TEST_CASE("the good one is the newest that was proven, and nothing takes its place") {
  const TemporaryFolder out;
  CheckpointFolder folder(out.path(), 1);
  for (int step : {1, 2}) folder.save_recovery(at(step));
  folder.prove(1);  // no longer the newest: it says nothing of the weights of step 2
  CHECK_FALSE(fs::exists(out / "good.safetensors"));
  folder.prove(2);
  for (int step : {3, 4, 5}) folder.save_recovery(at(step));
  CHECK_FALSE(fs::exists(out / "recovery-00000002.safetensors"));  // rotated; its other name stays
  CHECK(step_of(find_resumable(out.path())) == 5);

  CHECK(step_of(folder.fall_back(kNone)) == 2);
  CHECK(names(out.path()) == std::set<std::string>{"good.safetensors", "last.safetensors"});
  CHECK(step_of(find_resumable(out.path())) == 2);
  CHECK(step_of(Resumable{"", load_checkpoint(out / "last.safetensors")}) == 2);
}

TEST_CASE("what another process saved is not lost, nor is the best") {
  const TemporaryFolder out;
  CheckpointFolder(out.path()).save_recovery(at(1));
  CheckpointFolder folder(out.path());
  folder.save_recovery(at(2));
  CHECK_FALSE(folder.fall_back(kNone));
  std::set<std::string> left{"last.safetensors", "recovery-00000001.safetensors"};
  CHECK(names(out.path()) == left);
  folder.save(at(3), 70);
  CHECK_FALSE(folder.fall_back(kNone));
  left.insert({"best.safetensors", "checkpoint-0003.safetensors"});
  CHECK(names(out.path()) == left);
}

TEST_CASE("after a failure the next process goes on from the good one, whoever saved later") {
  const TemporaryFolder out;
  {
    CheckpointFolder folder(out.path());
    folder.save(at(1), 60);
    folder.prove(1);
    folder.save_recovery(at(2));  // interrupted here
  }
  CheckpointFolder folder(out.path());
  folder.save(at(3), 70);  // the best, and not known to be good
  CHECK(step_of(folder.fall_back(kNone)) == 1);
  CHECK(step_of(find_resumable(out.path())) == 1);
  CHECK(step_of(Resumable{"", load_checkpoint(out / "best.safetensors")}) == 1);
  for (const char* aside :
       {"recovery-00000002.safetensors.old1", "checkpoint-0003.safetensors.old1"})
    CHECK_MESSAGE(fs::exists(out / aside), aside);
}

TEST_CASE("without a good one the newest of an earlier process that proves to be good is it") {
  const TemporaryFolder out;
  {
    CheckpointFolder folder(out.path());
    for (int step : {1, 2, 3}) folder.save(at(step), step);
  }
  CheckpointFolder folder(out.path());
  folder.save_recovery(at(4));
  std::vector<int64_t> asked;
  const auto good = folder.fall_back([&](const Checkpoint& c) {
    asked.push_back(c.state["step"]);
    return c.state["step"] == 2;
  });
  CHECK(asked == std::vector<int64_t>{3, 2});
  CHECK(step_of(good) == 2);
  CHECK(good->path == out / "good.safetensors");
  CHECK(step_of(find_resumable(out.path())) == 2);
  CHECK(fs::exists(out / "checkpoint-0003.safetensors.old1"));
}

TEST_CASE("what is saved while steps are skipped is not the last, but can be gone on from") {
  const TemporaryFolder out;
  CheckpointFolder folder(out.path());
  folder.save_recovery(at(1));
  Checkpoint skipping = at(2);
  skipping.state["skipped_in_a_row"] = 1;
  folder.save_recovery(skipping);
  CHECK(fs::equivalent(out / "last.safetensors", out / "recovery-00000001.safetensors"));
  CHECK(step_of(find_resumable(out.path())) == 2);
}

TEST_CASE("weights or moments that are not finite are passed over, by their name; EMAs are not") {
  for (const std::string prefix : {"", "adam.v.", "ema."}) {
    const TemporaryFolder out;
    CheckpointFolder folder(out.path());
    folder.save_recovery(at(1));
    Checkpoint poisoned = at(2);
    poisoned.tensors.emplace_back(prefix + "x", full({3}, NAN));
    CHECK(first_not_finite(poisoned) == (prefix == "ema." ? "" : prefix + "x"));
    folder.save_recovery(poisoned);
    CHECK(find_resumable(out.path())->checkpoint.state["step"] == (prefix == "ema." ? 2 : 1));
  }
}

TEST_CASE("a damaged newest checkpoint gives way to the one before") {
  const TemporaryFolder out;
  CheckpointFolder folder(out.path(), 1);
  folder.save(at(1));
  folder.save(at(2));
  damage(out / "checkpoint-0002.safetensors");
  CHECK(step_of(find_resumable(out.path())) == 1);
  fs::resize_file(out / "checkpoint-0002.safetensors", 20);  // now the header
  CHECK(step_of(find_resumable(out.path())) == 1);
  damage(out / "checkpoint-0001.safetensors");
  CHECK(contains(error_of(ExitCode::checkpoint, [&] { find_resumable(out.path()); }),
                 "all 2 checkpoints are damaged or not good"));
}

TEST_CASE("copies and files of others stay, and are not resumed from") {
  const TemporaryFolder out;
  const std::set<std::string> others{"checkpoint-0001-mybackup.safetensors",
                                     "checkpoint-1.safetensors",
                                     "recovery-copy.safetensors",
                                     "checkpoint-0099.safetensors",
                                     "thesis.unfinished.12.3",
                                     "checkpoint-0001.safetensors.bak"};
  {
    CheckpointFolder folder(out.path(), 1);
    folder.save(at(1), 1);
    for (const std::string& name : others)
      fs::copy(out / "checkpoint-0001.safetensors", out / name);
    for (int i = 2; i < 6; ++i) folder.save(at(i), i);
  }
  const CheckpointFolder again(out.path(), 1);
  const std::set<std::string> now = names(out.path());
  for (const std::string& name : others) CHECK_MESSAGE(now.contains(name), name);
  CHECK_FALSE(now.contains("checkpoint-0001.safetensors"));
  CHECK(step_of(find_resumable(out.path())) == 5);
  for (const std::string& name : now)
    if (!others.contains(name)) fs::remove(out / name);
  CHECK_FALSE(find_resumable(out.path()));
}

TEST_CASE("what bears the name of a checkpoint and is none is kept by another name") {
  const TemporaryFolder out;
  {
    CheckpointFolder folder(out.path(), 1);
    folder.save(at(1), 1);
  }
  fs::copy(out / "checkpoint-0001.safetensors", out / "checkpoint-0002.safetensors");
  put(out / "best.safetensors", "of somebody");
  CheckpointFolder folder(out.path(), 1);
  folder.save(at(2), 2);
  CHECK(read_file(out / "best.safetensors.old1") == "of somebody");
  CHECK(load_checkpoint(out / "checkpoint-0002.safetensors.old1").state["step"] == 1);
  CHECK(step_of(find_resumable(out.path())) == 2);
  CHECK(fs::equivalent(out / "best.safetensors", out / "checkpoint-0002.safetensors"));
}

TEST_CASE("a second run in the folder is refused") {
  const TemporaryFolder out;
  const CheckpointFolder folder(out.path());
  CHECK(contains(error_of(ExitCode::usage, [&] { CheckpointFolder second(out.path()); }),
                 "another run"));
}

TEST_CASE("killed at any moment of a save, the previous or the new checkpoint loads") {
  const TemporaryFolder out;
  std::mt19937 random(1);
  int64_t confirmed = 0;
  int killed_in_save = 0;
  for (int round = 0; round < 30; ++round) {
    int pipe[2];
    REQUIRE(::pipe(pipe) == 0);
    const pid_t child = start_child([&] {
      CheckpointFolder folder(out.path(), 2);
      for (int step = int(confirmed) + 1;; ++step) {
        folder.save(at(step, 50'000), step % 5);
        if (::write(pipe[1], &step, sizeof step) != sizeof step) return 1;
      }
    });
    ::close(pipe[1]);
    // Let it save once, so that every round is a kill within a run; then at a random moment.
    for (int step = 0; ::read(pipe[0], &step, sizeof step) == sizeof step;) {
      const bool first = step == confirmed + 1;
      confirmed = step;
      if (!first) continue;
      ::usleep(random() % 30'000);
      ::kill(child, SIGKILL);
    }
    ::close(pipe[0]);
    CHECK(wait_for(child) == 128 + SIGKILL);
    const int64_t step = step_of(find_resumable(out.path()));
    CHECK(step >= confirmed);
    CHECK(step <= confirmed + 1);
    for (const std::string& name : names(out.path()))
      if (contains(name, std::string(AtomicFile::kUnfinished))) {
        ++killed_in_save;
        break;
      }
    confirmed = step;
  }
  MESSAGE("killed while a file was being written: " << killed_in_save << " of 30");
  const CheckpointFolder again(out.path(), 2);
  for (const std::string& name : names(out.path())) CHECK(contains(name, ".safetensors"));
}

TEST_CASE("a full disk keeps the old checkpoint") {
  const TemporaryFolder out;
  const pid_t child = start_child([&] {
    if (!mount_disk(out.path(), 1 << 20)) return kNoMount;
    CheckpointFolder folder(out.path(), 10);
    int step = 0;
    const std::string message = error_of(ExitCode::checkpoint, [&] {
      for (;; ++step) folder.save(at(step + 1, 30'000));
    });
    if (!contains(message, "No space left on device") || !contains(message, "bytes")) return 1;
    if (step < 2 || find_resumable(out.path())->checkpoint.state["step"] != step) return 2;
    for (const std::string& name : names(out.path()))
      if (contains(name, std::string(AtomicFile::kUnfinished))) return 3;
    return 0;
  });
  const int code = wait_for(child);
  if (code == kNoMount)
    skip("this user may not mount a disk");
  else
    CHECK(code == 0);
}

TEST_CASE("a failing write keeps the old checkpoint") {
  const TemporaryFolder out;
  CheckpointFolder folder(out.path());
  folder.save(at(1));
  system_write = [](int fd, const void* data, size_t bytes) -> ssize_t {
    if (bytes >= 400) {
      errno = EIO;
      return -1;
    }
    return ::write(fd, data, bytes);
  };
  const std::string message = error_of(ExitCode::checkpoint, [&] { folder.save(at(2)); });
  system_write = ::write;
  CHECK(contains(message, "Input/output error"));
  CHECK(step_of(find_resumable(out.path())) == 1);
}
