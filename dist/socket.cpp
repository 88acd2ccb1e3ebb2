#include "dist/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>

#include "core/error.h"

namespace sg::dist {
namespace {

struct AnyAddress {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

std::string text_of(AnyAddress a) {
  if (a.storage.ss_family != AF_INET && a.storage.ss_family != AF_INET6) return "";
  char host[NI_MAXHOST];
  if (::getnameinfo(a.get(), a.size, host, sizeof(host), nullptr, 0, NI_NUMERICHOST) != 0)
    return "";
  const std::string text = host, mapped = "::ffff:";
  return text.starts_with(mapped) ? text.substr(mapped.size()) : text;
}

std::optional<FileDescriptor> listen_on(int family, int port, bool loopback = false) {
  FileDescriptor fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return FileDescriptor();
  const int on = 1, off = 0;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  AnyAddress a;
  if (family == AF_INET6) {
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    auto& in = reinterpret_cast<sockaddr_in6&>(a.storage);
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(uint16_t(port));
    a.size = sizeof(in);
  } else {
    auto& in = reinterpret_cast<sockaddr_in&>(a.storage);
    in.sin_family = AF_INET;
    in.sin_port = htons(uint16_t(port));
    if (loopback) in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.size = sizeof(in);
  }
  if (::bind(fd.get(), a.get(), a.size) == 0 && ::listen(fd.get(), SOMAXCONN) == 0) return fd;
  if (errno == EADDRINUSE || errno == EACCES) return std::nullopt;
  return FileDescriptor();
}

}  // namespace

std::optional<FileDescriptor> listen_on(int port) {
  for (const int family : {AF_INET6, AF_INET}) {
    std::optional<FileDescriptor> fd = listen_on(family, port);
    if (!fd || fd->get() >= 0) return fd;
  }
  fail(ExitCode::failure, "cannot listen on TCP port {}: {}", port, std::strerror(errno));
}

FileDescriptor listen_on_loopback() {
  std::optional<FileDescriptor> fd = listen_on(AF_INET, 0, true);
  check(fd && fd->get() >= 0, "cannot listen on a port of 127.0.0.1: {}", std::strerror(errno));
  return std::move(*fd);
}

int port_of(int listener) {
  AnyAddress a;
  check(::getsockname(listener, a.get(), &a.size) == 0, "file descriptor {} is no listening socket",
        listener);
  return ntohs(a.storage.ss_family == AF_INET6
                   ? reinterpret_cast<sockaddr_in6&>(a.storage).sin6_port
                   : reinterpret_cast<sockaddr_in&>(a.storage).sin_port);
}

Connected connect_to(const std::string& host, int port, Seconds timeout) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int e = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found))
    return {FileDescriptor(), fmt::format("host name: {}", ::gai_strerror(e))};
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
  int last_error = 0;
  for (const addrinfo* a = found; a; a = a->ai_next) {
    FileDescriptor fd(::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd.get() < 0) continue;
    int error = ::connect(fd.get(), a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS || error == EINTR) {
      pollfd event{fd.get(), POLLOUT, 0};
      wait_for_events({&event, 1}, timeout);
      socklen_t size = sizeof(error);
      if (!event.revents)
        error = ETIMEDOUT;
      else
        ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    }
    // A port of this host that nobody listens on may be chosen for the connection's own end: it
    // then is connected to itself.
    AnyAddress near, far;
    if (error == 0 && ::getsockname(fd.get(), near.get(), &near.size) == 0 &&
        ::getpeername(fd.get(), far.get(), &far.size) == 0 && near.size == far.size &&
        std::memcmp(&near.storage, &far.storage, near.size) == 0)
      error = ECONNREFUSED;
    if (error == 0) {
      const int on = 1;
      ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      return {std::move(fd), ""};
    }
    last_error = error;
  }
  return {FileDescriptor(),
          last_error ? std::strerror(last_error) : "no address that can be reached",
          last_error == ECONNREFUSED};
}

std::string peer_address(int fd) {
  AnyAddress a;
  return ::getpeername(fd, a.get(), &a.size) == 0 ? text_of(a) : "";
}

std::string own_address(int fd) {
  AnyAddress a;
  return ::getsockname(fd, a.get(), &a.size) == 0 ? text_of(a) : "";
}

bool is_loopback(const std::string& address) {
  return address == "::1" || address.starts_with("127.");
}

std::vector<std::string> own_addresses() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return {"127.0.0.1"};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(all, ::freeifaddrs);
  std::vector<std::string> found;
  for (const ifaddrs* i = all; i; i = i->ifa_next) {
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP)) continue;
    const int family = i->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    AnyAddress a;
    a.size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    std::memcpy(&a.storage, i->ifa_addr, a.size);
    const std::string text = text_of(a);
    if (text.find('%') == std::string::npos) found.push_back(text);  // of one link alone
  }
  std::stable_partition(found.begin(), found.end(), [](auto& a) { return !is_loopback(a); });
  return found;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

void wait_for_events(std::span<pollfd> fds, Seconds timeout) {
  const auto end = Clock::now() + std::max(timeout, Seconds(0));
  for (;;) {
    const double left = Seconds(end - Clock::now()).count();
    const int ms = int(std::clamp(std::ceil(left * 1e3), 0.0, 1e9));
    if (::poll(fds.data(), nfds_t(fds.size()), ms) >= 0) return;
    if (errno != EINTR) fail(ExitCode::failure, "poll: {}", std::strerror(errno));
  }
}

}  // namespace sg::dist
