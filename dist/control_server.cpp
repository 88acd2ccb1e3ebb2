#include "dist/control_server.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "dist/block_signals.h"
#include "dist/say.h"

namespace sg::dist {
namespace {

using Type = Message::Type;

constexpr Seconds kHelloTime{10};    // for a newcomer to say who it is
constexpr Seconds kComeAgain{5};     // for one that came and went
constexpr Seconds kLastMessages{1};  // to send what is left at the end

}  // namespace

Wake::Wake() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  check(fd_.get() >= 0, "eventfd: {}", std::strerror(errno));
}
void Wake::set() {
  const uint64_t one = 1;
  (void)!::write(fd(), &one, sizeof(one));
}
void Wake::clear() {
  uint64_t count = 0;
  (void)!::read(fd(), &count, sizeof(count));
}

ControlServer::ControlServer(FileDescriptor listener, FileDescriptor first,
                             const ControlSettings& settings)
    : settings_(settings),
      listener_(std::move(listener)),
      seats_(size_t(settings.ranks)),
      standings_(size_t(settings.ranks)) {
  ::fcntl(listener_.get(), F_SETFL, ::fcntl(listener_.get(), F_GETFL) | O_NONBLOCK);
  newcomers_.push_back({Channel(std::move(first), Channel::kMaxHello), begin_});
  const BlockSignals block;
  thread_ = std::thread([this] { run(); });
}

ControlServer::~ControlServer() {
  stop_ = true;
  wake_.set();
  thread_.join();
}

void ControlServer::run() {
  Time last = Clock::now(), next_beat = last;
  std::vector<pollfd> events;
  std::vector<Message> messages;
  const auto listen_to = [&](const Channel& c) {
    if (c.open()) events.push_back({c.fd(), short(POLLIN | (c.unsent() ? POLLOUT : 0)), 0});
  };
  while (!stop_) {
    events = {{wake_.fd(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Newcomer& n : newcomers_) listen_to(n.connection);
    for (const Seat& s : seats_) listen_to(s.connection);
    wait_for_events(events, next_beat - Clock::now());
    wake_.clear();

    accept_all();
    for (Newcomer& n : newcomers_) {
      messages.clear();
      n.connection.receive(messages);
      if (!messages.empty()) greet(n, messages[0]);
      if (Clock::now() - n.since > kHelloTime) n.connection.close();
    }
    std::erase_if(newcomers_, [](const Newcomer& n) { return !n.connection.open(); });
    for (int i = 0; i < settings_.ranks; ++i) {
      Channel& c = seats_[i].connection;
      if (!c.open()) continue;
      messages.clear();
      c.send_rest();
      c.receive(messages);
      for (Message& m : messages) handle(i, m);
    }

    const Time now = Clock::now();
    // A server that did not run itself has heard nobody.
    if (now - last > settings_.silence() / 2)
      for (Standing& s : standings_) s.heard = now;
    last = now;
    if (verdict_.empty()) judge(now);
    if (now >= next_beat) {
      to_all({Type::beat});
      next_beat = now + std::chrono::duration_cast<Clock::duration>(settings_.beat());
    }
  }
  if (verdict_.empty()) to_all({Type::goodbye});
  const Time end = Clock::now() + std::chrono::duration_cast<Clock::duration>(kLastMessages);
  for (;;) {
    events.clear();
    for (Seat& s : seats_) {
      s.connection.send_rest();
      if (s.connection.open() && s.connection.unsent())
        events.push_back({s.connection.fd(), POLLOUT, 0});
    }
    if (events.empty() || Clock::now() > end) return;
    wait_for_events(events, end - Clock::now());
  }
}

void ControlServer::accept_all() {
  for (;;) {
    FileDescriptor fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.get() < 0) return;
    newcomers_.push_back({Channel(std::move(fd), Channel::kMaxHello), Clock::now()});
  }
}

std::string ControlServer::refusal(const Message& hello) const {
  if (hello.type != Type::hello || hello.texts.empty() || hello.texts[0] != kProtocol)
    return "another program, or another version of this one";
  if (hello.numbers.size() != 3 || hello.texts.size() != 3) return "no valid hello";
  if (hello.texts[1] != settings_.job)
    return fmt::format("rank 0 of another run ('{}', not '{}')", settings_.job, hello.texts[1]);
  const int64_t rank = hello.numbers[0], ranks = hello.numbers[1];
  if (ranks != settings_.ranks)
    return fmt::format("rank 0 of {} processes, not of {}", settings_.ranks, ranks);
  if (rank < 0 || rank >= ranks) return fmt::format("there is no rank {}", rank);
  if (seats_[size_t(rank)].taken) return fmt::format("{} is there", standings_[size_t(rank)].name);
  if (!verdict_.empty()) return verdict_;
  return "";
}

void ControlServer::greet(Newcomer& newcomer, const Message& hello) {
  if (const std::string why = refusal(hello); !why.empty()) {
    newcomer.connection.send({Type::refused, {}, {why}});
    newcomer.connection.close();
    return;
  }
  const auto rank = size_t(hello.numbers[0]);
  Seat& seat = seats_[rank];
  seat.connection = std::move(newcomer.connection);
  newcomer.connection = {};
  seat.connection.set_max_bytes(Channel::kMaxBytes);
  seat.taken = true;
  seat.process = hello.numbers[2];
  seat.host = hello.texts[2];
  seat.address = peer_address(seat.connection.fd());
  standings_[rank].name =
      fmt::format("rank {} (host {}, process {})", rank, seat.host, seat.process);
  standings_[rank].heard = Clock::now();
  seat.connection.send({Type::beat});
  if (std::ranges::all_of(seats_, &Seat::taken)) welcome();
}

void ControlServer::welcome() {
  complete_ = true;
  // Ranks on this host are reached by others where this server was reached.
  std::string here = "127.0.0.1";
  for (const Seat& s : seats_)
    if (!s.address.empty() && !is_loopback(s.address)) here = own_address(s.connection.fd());
  Message all{Type::welcome};
  for (Seat& s : seats_) {
    if (s.address.empty() || is_loopback(s.address)) s.address = here;
    all.numbers.push_back(s.process);
    all.texts.push_back(s.host);
    all.texts.push_back(s.address);
  }
  to_all(all);
  const Time now = Clock::now();
  for (Standing& s : standings_) s.heard = now;
}

void ControlServer::handle(int rank, Message& m) {
  Seat& seat = seats_[rank];
  Standing& standing = standings_[rank];
  standing.heard = Clock::now();
  if (m.type == Type::set && m.texts.size() == 2) {
    store_[m.texts[0]] = std::move(m.texts[1]);
    answer_gets();
  } else if (m.type == Type::get && m.texts.size() == 1) {
    seat.key = std::move(m.texts[0]);
    answer_gets();
  } else if (m.type == Type::meet && m.numbers.size() == 1 && m.texts.size() == 2) {
    standing.texts = {standing.texts.entered + 1, true, std::move(m.texts[0]), Clock::now()};
    seat.kind = m.numbers[0];
    seat.text = std::move(m.texts[1]);
    if (std::ranges::all_of(standings_, [](const Standing& s) { return s.texts.inside; }))
      complete_meeting();
  } else if (m.type == Type::beat) {
    read_beat(m, standing);
  } else if (m.type == Type::leave && m.texts.size() == 1) {
    standing.gone = true;
    if (verdict_.empty()) end(fmt::format("{} ended: {}", standing.name, m.texts[0]), rank);
    seat.connection.send({Type::goodbye});
  } else if (m.type == Type::goodbye) {
    standing.gone = true;
    if (std::ranges::all_of(standings_, &Standing::gone)) to_all({Type::goodbye});
  }
}

void ControlServer::answer_gets() {
  for (Seat& s : seats_) {
    if (s.key.empty()) continue;
    const auto found = store_.find(s.key);
    if (found == store_.end()) continue;
    s.connection.send({Type::value, {}, {found->second}});
    s.key.clear();
  }
}

void ControlServer::complete_meeting() {
  Message answer{Type::met};
  for (size_t i = 0; i < seats_.size(); ++i) {
    const std::string &mine = standings_[i].texts.what, &first = standings_[0].texts.what;
    if (mine != first || seats_[i].kind != seats_[0].kind) {
      answer = {Type::failed,
                {},
                {fmt::format("the ranks do not do the same: {} is in '{}', {} in '{}'; are all of "
                             "the same program, with the same options?",
                             standings_[0].name, first, standings_[i].name, mine)}};
      break;
    }
    answer.texts.push_back(std::move(seats_[i].text));
  }
  if (answer.type == Type::met && MeetingKind(seats_[0].kind) == MeetingKind::broadcast)
    answer.texts.resize(1);
  if (answer.type == Type::met && MeetingKind(seats_[0].kind) == MeetingKind::barrier)
    answer.texts.clear();
  for (size_t i = 0; i < seats_.size(); ++i) {
    standings_[i].texts.inside = false;
    seats_[i].text.clear();
  }
  to_all(answer);
}

void ControlServer::judge(Time now) {
  if (!complete_) return judge_absence(now);
  for (int i = 0; i < settings_.ranks; ++i) {
    const Standing& s = standings_[i];
    if (s.gone) continue;
    const Seconds silent = now - s.heard;
    if (seats_[i].connection.open() && silent <= settings_.silence()) continue;
    return end(fmt::format("{} was lost {}: {}{}", s.name, s.describe(),
                           seats_[i].connection.open() ? silent_text(silent) : kConnectionEnded,
                           waiting_text(standings_, i)));
  }
  const std::optional<Stall> stall = find_stall(standings_, now);
  if (!stall) return;
  const Seconds lasted = now - stall->since;
  if (stall->hopeless || (!stall->excused && lasted > settings_.timeout)) {
    end(stall->text(standings_, now));
  } else if (lasted > settings_.warn_after()) {
    const std::string which = fmt::format("{} {}", stall->lane->what, stall->lane->entered);
    if (which != warned_)
      say("warning",
          stall->text(standings_, now) +
              (stall->excused ? ""
                              : fmt::format("; after {} s all end", settings_.timeout.count())));
    warned_ = which;
  }
}

void ControlServer::judge_absence(Time now) {
  std::vector<int> here, missing;
  for (int i = 0; i < settings_.ranks; ++i) {
    Seat& s = seats_[i];
    // One that gave up waiting for an answer comes again.
    if (s.taken && !s.connection.open()) {
      s.taken = false;
      s.left = now;
    }
    if (!s.taken && s.left != Time() && now - s.left > std::min(kComeAgain, settings_.timeout / 2))
      return end(
          fmt::format("{} was lost before all had come: {}", standings_[i].name, kConnectionEnded));
    (s.taken ? here : missing).push_back(i);
  }
  const Seconds waited = now - begin_;
  const std::string text = fmt::format(
      "{} of {} did not come within {:.0f} s to port {} of host {}; {} came", list_of(missing),
      settings_.ranks, waited.count(), port_of(listener_.get()), host_name(), list_of(here));
  const char* advice =
      "each process is started by the same launcher, with a number of its own (sgtrain "
      "--nproc-per-node N, torchrun, mpirun or srun), and finds this host by MASTER_ADDR";
  if (waited > settings_.timeout) {
    end(fmt::format("{}; {}", text, advice));
  } else if (waited > settings_.warn_after() && warned_.empty()) {
    warned_ = text;
    say("warning",
        fmt::format("{}; {}; after {} s all end", text, advice, settings_.timeout.count()));
  }
}

void ControlServer::end(const std::string& verdict, int except) {
  verdict_ = verdict;
  to_all({Type::verdict, {}, {verdict}}, except);
}

void ControlServer::to_all(const Message& message, int except) {
  for (int i = 0; i < settings_.ranks; ++i)
    if (i != except) seats_[i].connection.send(message);
}

}  // namespace sg::dist
