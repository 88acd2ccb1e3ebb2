// TCP sockets: listening, connecting within a time, addresses as text. IPv6 where the host has it.
#pragma once
#include <poll.h>

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/file.h"

namespace sg::dist {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// Listens on all addresses of this host; port 0: any free one. Nothing where the port is in use;
// other errors throw ExitCode::failure.
std::optional<FileDescriptor> listen_on(int port);
// At a free port of 127.0.0.1 alone.
FileDescriptor listen_on_loopback();
int port_of(int listener);

// A connection, or why there is none: "connection refused".
struct Connected {
  FileDescriptor fd;
  std::string problem;
  bool refused = false;  // the host is there, and nobody listens
};
Connected connect_to(const std::string& host, int port, Seconds timeout);

// Of the far and of the near end: "10.0.0.2", "fe80::1%eth0"; "" where it is no TCP connection.
std::string peer_address(int fd);
std::string own_address(int fd);
bool is_loopback(const std::string& address);
// Of this host's interfaces that are up, the loopback one last.
std::vector<std::string> own_addresses();
std::string host_name();

// Waits for events, also where signals interrupt it; milliseconds, rounded up.
void wait_for_events(std::span<pollfd> fds, Seconds timeout);

}  // namespace sg::dist
