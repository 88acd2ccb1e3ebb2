// How the ranks of a run find rank 0.
#pragma once
#include <filesystem>

#include "dist/control_server.h"
#include "dist/launch.h"

namespace sg::dist {

// Rank 0's: the socket that the launcher hands over, or MASTER_PORT, or where that is in use one of
// the ports after it; without MASTER_ADDR any port, which a file in `folder` tells. Throws
// ExitCode::usage where all are in use.
class Rendezvous {
 public:
  Rendezvous(const Launch& launch, const std::filesystem::path& folder);
  ~Rendezvous();  // removes the file: all have come
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  FileDescriptor listener;

 private:
  std::filesystem::path file_;
};

// The others': a connection to rank 0, which has answered the hello. Passes over other programs and
// other runs. Throws ExitCode::peer after the timeout, with what was found instead.
Channel find_rank_0(const Launch& launch, const ControlSettings& settings,
                    const std::filesystem::path& folder);

// Sends the hello of this process.
void say_hello(Channel& connection, const Launch& launch);

}  // namespace sg::dist
