#include "dist/rendezvous.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>
#include <thread>

#include "core/error.h"
#include "core/text.h"
#include "dist/say.h"
#include "io/file.h"

namespace sg::dist {
namespace {

using Type = Message::Type;

constexpr int kPorts = 17;          // MASTER_PORT and those after it
constexpr Seconds kConnectTime{2};  // for one address to answer
constexpr Seconds kHelloTime{2};    // for an open connection to answer the hello
constexpr Seconds kPause{0.1};      // between rounds
constexpr std::string_view kFirstLine = "sgtrain rank 0";

// It listens for rank 0 before any rank is started.
bool has_our_launcher(const Launch& launch) { return launch.launcher == "sgtrain"; }

// Where rank 0 may listen, the first one first.
std::vector<int> ports_of(const Launch& launch) {
  if (has_our_launcher(launch)) return {launch.port};
  std::vector<int> ports;
  for (int p = launch.port + launch.port_is_taken; p < launch.port + kPorts && p < 65536; ++p)
    ports.push_back(p);
  return ports;
}

std::filesystem::path file_of(const Launch& launch, const std::filesystem::path& folder) {
  if (folder.empty())
    fail(
        ExitCode::usage,
        "{} processes, but how they find each other is unknown: set MASTER_ADDR and MASTER_PORT to "
        "the host of rank 0 and a free port of it, or --output to a folder that all hosts share",
        launch.ranks);
  std::string name = "ranks-" + launch.job;
  for (char& c : name)
    if (!std::isalnum(uint8_t(c)) && c != '-' && c != '.') c = '_';
  return folder / name;
}

struct Place {
  std::string host;
  int port = 0;
};

std::vector<Place> places_of_file(const std::filesystem::path& file) {
  std::error_code none;
  if (!std::filesystem::exists(file, none)) return {};
  std::istringstream lines(read_file(file));
  std::string first, line;
  std::getline(lines, first);
  if (!first.starts_with(kFirstLine)) return {};
  const auto port = parse_integer(std::string_view(first).substr(kFirstLine.size() + 1));
  std::vector<Place> places;
  while (port && std::getline(lines, line)) places.push_back({line, int(*port)});
  return places;
}

// Says hello and waits for the answer: "" where it is rank 0 of this run, else what is there; where
// that is rank 0 of a run, also in `refusal`.
std::string greet(Channel& connection, const Launch& launch, std::string& refusal) {
  say_hello(connection, launch);
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(kHelloTime);
  std::vector<Message> answer;
  while (connection.open() && answer.empty() && Clock::now() < end) {
    pollfd event{connection.fd(), POLLIN, 0};
    wait_for_events({&event, 1}, end - Clock::now());
    connection.receive(answer, 1);  // what follows it is for Control
  }
  if (answer.empty())
    return connection.open() ? "something that does not answer" : "another program";
  if (answer[0].type == Type::beat) return "";
  if (answer[0].type != Type::refused || answer[0].texts.empty()) return "another program";
  return refusal = answer[0].texts[0];
}

}  // namespace

void say_hello(Channel& connection, const Launch& launch) {
  connection.send({Type::hello,
                   {launch.rank, launch.ranks, ::getpid()},
                   {std::string(kProtocol), launch.job, host_name()}});
}

Rendezvous::Rendezvous(const Launch& launch, const std::filesystem::path& folder) {
  if (launch.listener >= 0) {
    int listens = 0;
    socklen_t size = sizeof listens;
    if (::getsockopt(launch.listener, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || !listens)
      fail(
          ExitCode::usage,
          "the environment variable SG_LISTENER: expected the descriptor of a socket that listens, "
          "found {}; sgtrain --nproc-per-node sets it for its ranks alone: unset SG_LAUNCHER and "
          "SG_LISTENER",
          launch.listener);
    listener = FileDescriptor(launch.listener);
    ::fcntl(launch.listener, F_SETFD, FD_CLOEXEC);
  } else if (launch.address.empty()) {
    const std::filesystem::path file = file_of(launch, folder);
    listener = std::move(*listen_on(0));
    std::string text = fmt::format("{} {}\n", kFirstLine, port_of(listener.get()));
    for (const std::string& a : own_addresses()) text += a + "\n";
    std::filesystem::create_directories(folder);
    write_file(file, text);
    file_ = file;
  } else {
    const std::vector<int> ports = ports_of(launch);
    for (const int port : ports)
      if (auto fd = listen_on(port)) {
        listener = std::move(*fd);
        return;
      }
    fail(ExitCode::usage,
         "the ports {} to {} of this host are in use: set MASTER_PORT to another one",
         ports.empty() ? launch.port : ports.front(), ports.empty() ? launch.port : ports.back());
  }
}

Rendezvous::~Rendezvous() {
  std::error_code ignored;
  if (!file_.empty()) std::filesystem::remove(file_, ignored);
}

Channel find_rank_0(const Launch& launch, const ControlSettings& settings,
                    const std::filesystem::path& folder) {
  const std::filesystem::path file =
      launch.address.empty() ? file_of(launch, folder) : std::filesystem::path();
  const auto begin = Clock::now();
  bool warned = false, gone = false;
  std::map<int, std::string> refusals;  // by port, of all rounds: what refused may be gone by now
  for (;;) {
    std::vector<Place> places;
    if (!file.empty())
      places = places_of_file(file);
    else
      for (const int port : ports_of(launch)) places.push_back({launch.address, port});

    std::map<std::string, std::vector<int>> problems;  // with the ports that have it
    for (const Place& place : places) {
      Connected c = connect_to(place.host, place.port, kConnectTime);
      if (c.refused && has_our_launcher(launch)) {
        gone = true;
        c.problem = "nobody listens any more: rank 0 has ended";
      }
      if (c.problem.empty()) {
        Channel connection(std::move(c.fd), Channel::kMaxHello);
        c.problem = greet(connection, launch, refusals[place.port]);
        if (c.problem.empty()) {
          connection.set_max_bytes(Channel::kMaxBytes);
          return connection;
        }
      }
      if (const std::string& before = refusals[place.port]; !before.empty() && before != c.problem)
        c.problem += ", after " + before;
      problems[fmt::format("{}: {}", place.host, c.problem)].push_back(place.port);
      if (Clock::now() - begin > settings.timeout) break;
    }

    const Seconds waited = Clock::now() - begin;
    const bool late = gone || waited > settings.timeout;
    if (late || (!warned && waited > settings.warn_after())) {
      warned = true;
      std::string found;
      for (const auto& [problem, ports] : problems)
        found += fmt::format("\n  port {}{} of {}", ports.front(),
                             ports.size() > 1 ? fmt::format(" and {} more", ports.size() - 1) : "",
                             problem);
      const std::string where = file.empty()
                                    ? fmt::format("at {} port {}", launch.address, launch.port)
                                    : fmt::format("by the file {}", file.string());
      const std::string text = fmt::format(
          "rank {} of {} on host {} did not find rank 0 {} within {:.0f} s; is rank 0 started, and "
          "can this host reach it?{}",
          launch.rank, launch.ranks, host_name(), where, waited.count(), found);
      if (late) fail(ExitCode::peer, "{}", text);
      say("warning", text);
    }
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace sg::dist
