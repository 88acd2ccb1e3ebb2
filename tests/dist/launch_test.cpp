#include "dist/launch.h"

#include <doctest/doctest.h>

#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/environment.h"
#include "tests/support/files.h"

using namespace sg;
using dist::Launch;

namespace {

using Variables = std::vector<std::pair<std::string, std::string>>;

// All that launch_of_environment() looks at, and what looks alike.
const std::vector<std::string> kNames = {"SG_LAUNCHER",
                                         "SG_JOB",
                                         "SG_RESTART",
                                         "SG_LISTENER",
                                         "RANK",
                                         "WORLD_SIZE",
                                         "LOCAL_RANK",
                                         "LOCAL_WORLD_SIZE",
                                         "MASTER_ADDR",
                                         "MASTER_PORT",
                                         "TORCHELASTIC_RUN_ID",
                                         "TORCHELASTIC_RESTART_COUNT",
                                         "TORCHELASTIC_USE_AGENT_STORE",
                                         "OMPI_COMM_WORLD_RANK",
                                         "OMPI_COMM_WORLD_SIZE",
                                         "OMPI_COMM_WORLD_LOCAL_RANK",
                                         "OMPI_COMM_WORLD_LOCAL_SIZE",
                                         "PMIX_NAMESPACE",
                                         "OMPI_MCA_ess_base_jobid",
                                         "PMI_RANK",
                                         "PMI_SIZE",
                                         "MPI_LOCALRANKID",
                                         "MPI_LOCALNRANKS",
                                         "SLURM_JOB_ID",
                                         "SLURM_STEP_ID",
                                         "SLURM_PROCID",
                                         "SLURM_LOCALID",
                                         "SLURM_NODEID",
                                         "SLURM_NTASKS",
                                         "SLURM_STEP_NUM_TASKS",
                                         "SLURM_STEP_TASKS_PER_NODE",
                                         "SLURM_TASKS_PER_NODE",
                                         "SLURM_RESTART_COUNT"};

Launch launch_of(const Variables& variables) {
  std::map<std::string, std::optional<std::string>> all;  // a later value of a name wins
  for (const std::string& name : kNames) all[name];
  for (const auto& [name, value] : variables) all[name] = value;
  std::list<test::Environment> set;
  for (const auto& [name, value] : all) set.emplace_back(name.c_str(), value);
  return dist::launch_of_environment();
}

std::string error_of(const Variables& variables) {
  return test::error_of(ExitCode::usage, [&] { launch_of(variables); });
}

Variables operator+(Variables a, const Variables& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const Variables kMaster = {{"MASTER_ADDR", "10.0.0.1"}, {"MASTER_PORT", "29500"}};
const Variables kMpich = {
    {"PMI_RANK", "3"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}};
const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node1"},
                             {"MASTER_PORT", "29500"}};
const Variables kSlurm = {{"SLURM_JOB_ID", "77"},
                          {"SLURM_STEP_ID", "2"},
                          {"SLURM_PROCID", "6"},
                          {"SLURM_LOCALID", "0"},
                          {"SLURM_NODEID", "3"},
                          {"SLURM_STEP_NUM_TASKS", "7"},
                          {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"}};

struct Case {
  const char* name;
  Variables variables;
  Launch expected;
};

}  // namespace

TEST_CASE("which process of how many: by the variables of each launcher") {
  const Case cases[] = {
      {"nothing", {}, {}},
      {"sgtrain's own, rank 0",
       kTorchrun + Variables{{"RANK", "0"},
                             {"LOCAL_RANK", "0"},
                             {"SG_LAUNCHER", "sgtrain"},
                             {"SG_JOB", "abc"},
                             {"SG_RESTART", "2"},
                             {"SG_LISTENER", "7"}},
       {0, 8, 0, 4, "sgtrain", "abc.2", "node1", 29500, false, 7}},
      {"sgtrain's own, another rank",
       kTorchrun + Variables{{"SG_LAUNCHER", "sgtrain"}, {"SG_JOB", "abc"}, {"SG_RESTART", "0"}},
       {5, 8, 1, 4, "sgtrain", "abc.0", "node1", 29500}},
      {"torchrun, whose agent holds the port",
       kTorchrun + Variables{{"TORCHELASTIC_RUN_ID", "run"},
                             {"TORCHELASTIC_RESTART_COUNT", "3"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"}},
       {5, 8, 1, 4, "torchrun", "run", "node1", 29500, true}},
      {"torchrun, whose rank 0 may have the port",
       kTorchrun + Variables{{"TORCHELASTIC_USE_AGENT_STORE", "False"}},
       {5, 8, 1, 4, "torchrun", "", "node1", 29500, false}},
      {"torchrun of one process", {{"RANK", "0"}, {"WORLD_SIZE", "1"}}, {0, 1, 0, 1, "torchrun"}},
      {"Kubernetes: a process a host",
       Variables{{"RANK", "2"}, {"WORLD_SIZE", "3"}} + kMaster,
       {2, 3, 0, 1, "torchrun", "", "10.0.0.1", 29500}},
      {"torchrun within a Slurm step of one task a node",
       kSlurm + kTorchrun,
       {5, 8, 1, 4, "torchrun", "", "node1", 29500}},
      {"Open MPI 5",
       {{"OMPI_COMM_WORLD_RANK", "3"},
        {"OMPI_COMM_WORLD_SIZE", "4"},
        {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
        {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
        {"PMIX_NAMESPACE", "prterun-a-17@1"}},
       {3, 4, 1, 2, "Open MPI", "prterun-a-17@1"}},
      {"Open MPI 4 with MASTER_ADDR",
       Variables{{"OMPI_COMM_WORLD_RANK", "0"},
                 {"OMPI_COMM_WORLD_SIZE", "2"},
                 {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                 {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"},
                 {"OMPI_MCA_ess_base_jobid", "12345"}} +
           kMaster,
       {0, 2, 0, 1, "Open MPI", "12345", "10.0.0.1", 29500}},
      {"Slurm, the last node", kSlurm, {6, 7, 0, 1, "Slurm", "77.2.0"}},
      {"Slurm, the first node, after a requeue",
       kSlurm +
           Variables{{"SLURM_PROCID", "1"},
                     {"SLURM_LOCALID", "1"},
                     {"SLURM_NODEID", "0"},
                     {"SLURM_RESTART_COUNT", "4"}} +
           kMaster,
       {1, 7, 1, 2, "Slurm", "77.2.4", "10.0.0.1", 29500}},
      {"Slurm, a list without repeats",
       kSlurm + Variables{{"SLURM_NODEID", "1"}, {"SLURM_STEP_TASKS_PER_NODE", "3,4"}},
       {6, 7, 0, 4, "Slurm", "77.2.0"}},
      {"Slurm's step has fewer tasks than its job",
       kSlurm + Variables{{"SLURM_NTASKS", "64"}, {"SLURM_TASKS_PER_NODE", "16(x4)"}},
       {6, 7, 0, 1, "Slurm", "77.2.0"}},
      {"the shell of salloc",
       {{"SLURM_JOB_ID", "77"}, {"SLURM_NTASKS", "8"}, {"SLURM_TASKS_PER_NODE", "2(x4)"}},
       {}},
      {"the shell of salloc as a step of its own",
       kSlurm +
           Variables{{"SLURM_STEP_ID", "4294967290"}, {"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}},
       {}},
      {"the script of sbatch",
       {{"SLURM_JOB_ID", "77"},
        {"SLURM_NTASKS", "8"},
        {"SLURM_PROCID", "0"},
        {"SLURM_NODEID", "0"}},
       {}},
      {"MPICH", kMpich + kMaster, {3, 4, 1, 2, "MPICH", "", "10.0.0.1", 29500}},
      {"a Slurm step whose srun speaks PMI", kSlurm + kMpich, launch_of(kSlurm)},
      {"MASTER_ADDR alone says nothing", {{"MASTER_ADDR", "node1"}}, {}},
  };
  for (const Case& c : cases) {
    CAPTURE(std::string(c.name));
    const Launch l = launch_of(c.variables);
    CHECK(l.rank == c.expected.rank);
    CHECK(l.ranks == c.expected.ranks);
    CHECK(l.local_rank == c.expected.local_rank);
    CHECK(l.local_ranks == c.expected.local_ranks);
    CHECK(l.launcher == c.expected.launcher);
    CHECK(l.job == c.expected.job);
    CHECK(l.address == c.expected.address);
    CHECK(l.port == c.expected.port);
    CHECK(l.port_is_taken == c.expected.port_is_taken);
    CHECK(l.listener == c.expected.listener);
  }
}

TEST_CASE("variables that lack or contradict each other are named") {
  const std::pair<Variables, std::vector<std::string>> cases[] = {
      {{{"WORLD_SIZE", "2"}}, {"has WORLD_SIZE, but not RANK:", "is one process"}},
      {{{"RANK", "0"}}, {"has RANK, but not WORLD_SIZE:"}},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}}, {"MASTER_ADDR"}},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}}, {"MASTER_PORT"}},
      {kTorchrun + Variables{{"RANK", "8"}}, {"RANK", "0 to 7", "'8'"}},
      {kTorchrun + Variables{{"RANK", "one"}}, {"RANK", "'one'"}},
      {kTorchrun + Variables{{"LOCAL_RANK", "4"}}, {"LOCAL_RANK", "0 to 3"}},
      {kTorchrun + Variables{{"LOCAL_WORLD_SIZE", ""}},
       {"has LOCAL_RANK, but not LOCAL_WORLD_SIZE:", "alone on its host"}},
      {kTorchrun + Variables{{"MASTER_PORT", "0"}}, {"MASTER_PORT", "1 to 65535"}},
      {kTorchrun + Variables{{"SG_LAUNCHER", "sgtrain"}}, {"SG_JOB"}},
      {{{"OMPI_COMM_WORLD_SIZE", "2"}}, {"OMPI_COMM_WORLD_RANK"}},
      {{{"PMI_RANK", "0"}}, {"PMI_SIZE"}},
      {kSlurm + Variables{{"MASTER_ADDR", "a"}}, {"MASTER_PORT"}},
      {kSlurm + Variables{{"SLURM_STEP_TASKS_PER_NODE", "2(x3)"}},
       {"SLURM_STEP_NUM_TASKS is 7", "'2(x3)'"}},
      {kSlurm + Variables{{"SLURM_NODEID", "4"}}, {"SLURM_NODEID 4"}},
      {kSlurm + Variables{{"SLURM_STEP_TASKS_PER_NODE", "2(y3),1"}}, {"'2(y3)'"}},
      {kSlurm + Variables{{"SLURM_STEP_TASKS_PER_NODE", "2(x3),"}}, {"''"}},
      {kSlurm + Variables{{"SLURM_STEP_NUM_TASKS", ""}}, {"SLURM_STEP_NUM_TASKS"}},
  };
  for (const auto& [variables, expected] : cases) {
    const std::string error = error_of(variables);
    CAPTURE(error);
    for (const std::string& part : expected) CHECK(error.find(part) != std::string::npos);
  }
}
