#include "train/start_ranks.h"

#include <sys/stat.h>

#include <utility>

#include "core/backend.h"
#include "core/cpu/cores.h"
#include "core/text.h"
#include "train/run_folder.h"

namespace sg::train {
namespace fs = std::filesystem;
namespace {

constexpr int kMostRanks = 1024, kMostRanksOfCore = 16;

bool asks_for_gpus(const std::string& device) { return device == "auto" || device == "cuda"; }

std::vector<int> usable_gpus() {
  std::vector<int> gpus;
  const int devices = has_backend(DeviceType::cuda) ? backend(DeviceType::cuda).device_count() : 0;
  for (int i = 0; i < devices; ++i)
    if (available({DeviceType::cuda, i})) gpus.push_back(i);
  return gpus;
}

int ranks_of(const Options& o) {
  const int gpus = int(usable_gpus().size());
  if (o.nproc_per_node == "gpu") {
    if (!asks_for_gpus(o.device))
      fail(ExitCode::usage,
           "--nproc-per-node gpu: counts GPUs, but --device is {}; give a number, or --device cuda",
           o.device);
    if (gpus == 0)
      fail(ExitCode::usage, "--nproc-per-node gpu: {}; give the number of processes",
           obstacle({DeviceType::cuda, 0})->reason);
    return gpus;
  }
  const auto n = parse_integer(o.nproc_per_node);
  if (!n || *n < 1 || *n > kMostRanks)
    fail(ExitCode::usage,
         "--nproc-per-node: expected a number of processes from 1 to {}, or gpu, found '{}'",
         kMostRanks, o.nproc_per_node);
  if (*n > 1 && o.device.starts_with("cuda:"))
    fail(ExitCode::usage,
         "--device {}: is one GPU, but --nproc-per-node starts {} processes; give --device cuda, "
         "and choose GPUs by CUDA_VISIBLE_DEVICES",
         o.device, *n);
  if (asks_for_gpus(o.device) && (gpus > 0 || o.device == "cuda") && *n > gpus)
    fail(ExitCode::usage,
         "--nproc-per-node: expected at most the {} GPU{} of this host, found {}; give fewer, or "
         "--device cpu",
         gpus, gpus == 1 ? "" : "s", *n);
  if (const Cores cores = usable_cores(); *n > kMostRanksOfCore * cores.usable)
    fail(ExitCode::usage,
         "--nproc-per-node: expected at most {} processes, {} for each of the {} cores, found {}",
         kMostRanksOfCore * cores.usable, kMostRanksOfCore, cores.usable, *n);
  return int(*n);
}

// The flag stands first: the same flag later in the line would win, and "--" may end the flags.
std::vector<std::string> with_flag(std::vector<std::string> command, const std::string& flag,
                                   const std::string& value) {
  command.insert(command.begin() + 1, {flag, value});
  return command;
}

// Tells a file from what takes its name later.
using FileIdentity = std::tuple<ino_t, time_t, long>;
std::optional<FileIdentity> identity_of(const fs::path& path) {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0) return {};
  return FileIdentity(s.st_ino, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
}

}  // namespace

bool starts_ranks(const Options& o, const dist::Launch& launch) {
  if (dist::is_launched()) return false;
  if (o.nproc_per_node.empty()) {
    if (o.max_restarts)
      fail(ExitCode::usage,
           "--max-restarts: of --nproc-per-node, which is missing; torchrun takes it before the "
           "program: torchrun --max-restarts {} ... sgtrain ...",
           o.max_restarts);
    return false;
  }
  if (launch.ranks > 1)
    fail(
        ExitCode::usage,
        "--nproc-per-node: {} has started {} processes already, and this is rank {} of them; leave "
        "--nproc-per-node out (--nproc-per-node '' where a --config has it), or start sgtrain once",
        launch.launcher, launch.ranks, launch.rank);
  return true;
}

std::string device_of_rank(const std::string& device, const dist::Launch& launch) {
  if (launch.local_ranks == 1 || !asks_for_gpus(device)) return device;
  const std::vector<int> gpus = usable_gpus();
  if (gpus.empty()) return device;
  if (gpus.size() > 1 && gpus.size() < size_t(launch.local_ranks))
    fail(ExitCode::usage,
         "--device {}: {} processes on this host need as many GPUs, found {}; start fewer, or give "
         "--device cpu",
         device, launch.local_ranks, gpus.size());
  return str(
      Device{DeviceType::cuda, gpus.size() == 1 ? gpus[0] : gpus[size_t(launch.local_rank)]});
}

dist::LauncherSettings launcher_settings(Options o, std::vector<std::string> command) {
  o.ranks = ranks_of(o);
  validate(o);
  if (!names_folder(o)) {
    o.img_size = transforms(o).img_size;
    o.output = new_folder(o).string();
    command = with_flag(std::move(command), "--output", o.output);
  }
  const fs::path last = run_folder(o) / kCheckpoints / "last.safetensors";
  const auto start = [=, before = identity_of(last)](int64_t) -> dist::LauncherStart {
    const auto now = identity_of(last);
    if (now && now != before)
      return {with_flag(without_start_options(command), "--resume", "auto"), last.string()};
    if (o.resume == "auto") return {command, now ? last.string() : ""};
    return {command, o.resume};
  };
  return {.ranks = int(o.ranks),
          .start = start,
          .max_restarts = o.dry_run ? 0 : o.max_restarts,
          .set_threads = !o.threads,
          .timeout = dist::LauncherSettings::Seconds(o.dist_timeout)};
}

}  // namespace sg::train
