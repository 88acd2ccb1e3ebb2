// What goes wrong outside the programs: disks, folders, files of something else. Each is one clear
// message and the exit code of its kind.
#include <sys/mount.h>

#include "io/checkpoint.h"
#include "tests/support/process.h"
#include "tests/tools/runs.h"

namespace sg {
using namespace sg::test;
namespace fs = std::filesystem;

TEST_CASE("sgtrain: a disk that is full, or cannot be written") {
  const TemporaryFolder data, disk;
  write_idx(data.path(), 16, 8);
  const fs::path run = disk / "run", last = run / "checkpoints/last.safetensors";
  const pid_t child = start_child([&] {
    // Room for the checkpoint of the first epoch, not for the second beside it.
    if (!mount_disk(disk.path(), 18 << 20)) return kNoMount;
    const auto full = run_program(sgtrain(data.path(), run));
    if (full.code != 4 || !contains(full.err, "No space left on device") ||
        !contains(full.err, "checkpoint-0001.safetensors: cannot be written after"))
      return 1;
    if (load_checkpoint(last).state["epoch"] != 0) return 2;
    // With room again the run goes on.
    if (::mount(nullptr, disk.path().c_str(), nullptr, MS_REMOUNT, "size=64m") != 0) return 3;
    if (run_program(sgtrain(data.path(), run, "--resume auto")).code != 0) return 4;
    if (load_checkpoint(last).state["epoch"] != 1) return 5;
    if (!make_read_only(disk.path())) return 6;
    const auto read_only = run_program(sgtrain(data.path(), disk / "other"));
    if (read_only.code != 2 || !contains(read_only.err, "Read-only file system")) return 7;
    return contains(read_only.out, "Train: ") ? 8 : 0;
  });
  const int code = wait_for(child);
  if (code == kNoMount)
    skip("this user may not mount a disk");
  else
    CHECK(code == 0);
}

TEST_CASE("sgtrain: sizes and heads that do not fit") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  const auto refused = [&](const std::string& flags, const std::string& message) {
    const auto ran = run_program(sgtrain(folder / "data", folder / "out", flags));
    CHECK(ran.code == 2);
    CHECK_MESSAGE(contains(ran.err, message), ran.err);
    CHECK(!fs::exists(folder / "out"));
  };
  refused("--scales '4g,2,1;-;-'", "the heads must be a multiple of the 3 scales; found 2");
  refused("--scales '4294967297g,1'", "not a whole number from 1 to 65536");
  refused("--regions '1/2:3;-;-'", "the shares of the regions must add to 1; found 1/2");
  refused("--img-size 0", "--img-size: expected from 1 to 8192, found 0");
  refused("--batch-size 0", "--batch-size: expected from 1 to 1048576, found 0");
  refused("--guidance best", "hybrid, local, global, uniform");
}

TEST_CASE("a folder of odd images: the broken are named, and too many of them end the run") {
  const fs::path odd = shared("data/odd");
  if (odd.empty()) return;
  const TemporaryFolder folder;
  for (const char* split : {"train", "val"}) {
    fs::create_directories(folder / "data" / split);
    for (const char* name : {"ljt-seed", "pillow", "pngsuite"})
      fs::create_directory_symlink(fs::absolute(odd / name), folder / "data" / split / name);
  }
  const auto ran =
      run_program(sgtrain(folder / "data", folder / "out", "-b 32 --epochs 1 --max-steps 2"));
  CHECK(ran.code == 3);
  CHECK_MESSAGE(contains(ran.err, "skipped, 1 so far: "), ran.err);
  CHECK(contains(ran.err, "error: "));
  // Without a folder train/ the set itself is refused.
  const auto flat = run_program(sgtrain(odd, folder / "out"));
  CHECK(flat.code == 3);
  CHECK(contains(flat.err, "expected a folder 'train'"));
}

TEST_CASE("checkpoints that are not there, or are something else") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 16, 8);
  put(folder / "text.pth", "no weights");
  put(folder / "text.safetensors", "no weights");
  save_as_checkpoint(*nano(), folder / "nano.safetensors");
  const auto refused = [&](const std::string& checkpoint, const std::string& message) {
    for (const std::string& program : {fmt::format("sgeval --data {}", (folder / "data").string()),
                                       std::string("sgpredict x")}) {
      const auto ran = run_program(
          fmt::format("{} --checkpoint {}/{}", program, folder.path().string(), checkpoint));
      CHECK(ran.code == 4);
      CHECK_MESSAGE(contains(ran.err, message), ran.err);
    }
  };
  refused("none.pth", "No such file or directory");
  refused("none.safetensors", "No such file or directory");
  refused("data", "expected a file of weights, or the folder of a run");
  refused("text.safetensors", "found text");
  refused("text.pth --model sgformer_nano", "text.pth");
  refused("nano.safetensors --model sgformer_s", "the weights do not fit sgformer_s");
}

}  // namespace sg
