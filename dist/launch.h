// Which process of how many this one is, as the program that started it says.
#pragma once
#include <string>

namespace sg::dist {

struct Launch {
  int rank = 0, ranks = 1;
  int local_rank = 0, local_ranks = 1;  // on this host
  std::string launcher;  // "torchrun", "Open MPI", "MPICH", "Slurm", "sgtrain"; "": none
  // Tells this start of this run from every other, by job and count of restarts; the same on all
  // ranks.
  std::string job;
  // Where rank 0 is found: MASTER_ADDR and MASTER_PORT. Without them, by a file in the run's
  // folder.
  std::string address;
  int port = 0;
  bool port_is_taken =
      false;          // by the launcher itself: rank 0 listens on one of the ports after it
  int listener = -1;  // a listening socket that rank 0 has inherited
};

// From the variables of torchrun, of Open MPI, of MPICH (Intel MPI's are the same), of Slurm's
// steps, or of sgtrain's own launcher; one process where there are none. Throws ExitCode::usage
// naming the variables that lack or contradict each other.
Launch launch_of_environment();

}  // namespace sg::dist
