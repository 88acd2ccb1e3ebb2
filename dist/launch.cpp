#include "dist/launch.h"

#include <climits>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "core/text.h"

namespace sg::dist {
namespace {

// An empty variable is one that is not set.
std::optional<std::string> text_of(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? std::optional<std::string>(value) : std::nullopt;
}

std::string need(const char* name, const char* because) {
  const auto value = text_of(name);
  if (!value)
    fail(ExitCode::usage,
         "the environment has {}, but not {}: set both, or neither; without RANK and WORLD_SIZE "
         "sgtrain is one process, without LOCAL_RANK and LOCAL_WORLD_SIZE alone on its host",
         because, name);
  return *value;
}

int number_of(const char* name, const std::string& text, int64_t low, int64_t high) {
  const auto value = parse_integer(text);
  if (!value || *value < low || *value > high)
    fail(ExitCode::usage,
         "the environment variable {}: expected an integer of {} to {}, found '{}'", name, low,
         high, text);
  return int(*value);
}

int need_number(const char* name, const char* because, int64_t low, int64_t high) {
  return number_of(name, need(name, because), low, high);
}

// The variables that say how many processes there are, and which one this is.
struct Names {
  const char *ranks, *rank, *local_ranks, *local_rank;
};

void read_ranks(Launch& launch, const Names& names) {
  launch.ranks = need_number(names.ranks, names.rank, 1, INT_MAX);
  launch.rank = need_number(names.rank, names.ranks, 0, launch.ranks - 1);
  // Where neither is set, each process is alone on its host (Kubernetes).
  if (!text_of(names.local_rank) && !text_of(names.local_ranks)) return;
  launch.local_ranks = need_number(names.local_ranks, names.local_rank, 1, launch.ranks);
  launch.local_rank = need_number(names.local_rank, names.local_ranks, 0, launch.local_ranks - 1);
}

void read_master(Launch& launch) {
  if (launch.ranks == 1 || (!text_of("MASTER_ADDR") && !text_of("MASTER_PORT"))) return;
  launch.address = need("MASTER_ADDR", "MASTER_PORT");
  launch.port = need_number("MASTER_PORT", "MASTER_ADDR", 1, 65535);
}

// Tasks of node `node` where "2(x3),1" are those of all: 2 on the first three, 1 on the last.
int tasks_of_node(const std::string& list, int node, int tasks) {
  constexpr const char* kName = "SLURM_STEP_TASKS_PER_NODE";
  int64_t nodes = 0, all = 0, mine = 0;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string part = list.substr(begin, end - begin);
    const size_t times = part.find("(x");
    const bool repeated = times != std::string::npos && part.ends_with(")");
    const int each = number_of(kName, repeated ? part.substr(0, times) : part, 1, tasks);
    const int count =
        repeated ? number_of(kName, part.substr(times + 2, part.size() - times - 3), 1, tasks) : 1;
    if (nodes <= node && node < nodes + count) mine = each;
    nodes += count;
    all += int64_t{each} * count;
    begin = end + 1;
  }
  if (all != tasks || mine == 0)
    fail(ExitCode::usage,
         "the variables of this Slurm step contradict each other: SLURM_STEP_NUM_TASKS is {}, "
         "{} is '{}' and SLURM_NODEID {}",
         tasks, kName, list, node);
  return int(mine);
}

// Only within a step of srun. The shell of salloc and the script of sbatch have the variables of a
// job of many tasks, but are one process; where Slurm makes a step of them, its number is one of
// the last.
bool in_slurm_step() {
  constexpr int64_t kFirstSpecial = 0xfffffff0;
  const auto step = text_of("SLURM_STEP_ID");
  const auto id = step ? parse_integer(*step) : std::nullopt;
  return id && *id < kFirstSpecial && text_of("SLURM_PROCID");
}

}  // namespace

Launch launch_of_environment() {
  Launch launch;
  const auto ours = text_of("SG_LAUNCHER");
  if (ours || text_of("RANK") || text_of("WORLD_SIZE")) {
    launch.launcher = ours ? "sgtrain" : "torchrun";
    read_ranks(launch, {"WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK"});
    read_master(launch);
    if (launch.ranks > 1) {
      need("MASTER_ADDR", "WORLD_SIZE");
      need("MASTER_PORT", "WORLD_SIZE");
    }
    if (ours) {
      launch.job = need("SG_JOB", "SG_LAUNCHER");
      launch.job += "." + need("SG_RESTART", "SG_LAUNCHER");
      if (launch.rank == 0 && launch.ranks > 1)
        launch.listener = need_number("SG_LISTENER", "SG_LAUNCHER", 0, INT_MAX);
    } else {
      // Not the count of restarts: agents of torchrun count on their own.
      launch.job = text_of("TORCHELASTIC_RUN_ID").value_or("");
      launch.port_is_taken = text_of("TORCHELASTIC_USE_AGENT_STORE") == "True";
    }
  } else if (text_of("OMPI_COMM_WORLD_RANK") || text_of("OMPI_COMM_WORLD_SIZE")) {
    launch.launcher = "Open MPI";
    read_ranks(launch, {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK",
                        "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"});
    read_master(launch);
    // Of version 5 and of version 4.
    launch.job =
        text_of("PMIX_NAMESPACE").value_or(text_of("OMPI_MCA_ess_base_jobid").value_or(""));
  } else if (in_slurm_step()) {
    constexpr const char* kStep = "SLURM_STEP_ID";
    launch.launcher = "Slurm";
    launch.ranks = need_number("SLURM_STEP_NUM_TASKS", kStep, 1, INT_MAX);
    launch.rank = need_number("SLURM_PROCID", kStep, 0, launch.ranks - 1);
    launch.local_ranks =
        tasks_of_node(need("SLURM_STEP_TASKS_PER_NODE", kStep),
                      need_number("SLURM_NODEID", kStep, 0, INT_MAX), launch.ranks);
    launch.local_rank = need_number("SLURM_LOCALID", kStep, 0, launch.local_ranks - 1);
    read_master(launch);
    launch.job = fmt::format("{}.{}.{}", need("SLURM_JOB_ID", kStep), *text_of("SLURM_STEP_ID"),
                             text_of("SLURM_RESTART_COUNT").value_or("0"));
  } else if (text_of("PMI_RANK") || text_of("PMI_SIZE")) {
    launch.launcher = "MPICH";
    read_ranks(launch, {"PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"});
    read_master(launch);
  }
  return launch;
}

}  // namespace sg::dist
