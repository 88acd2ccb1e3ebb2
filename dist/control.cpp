#include "dist/control.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "dist/block_signals.h"
#include "dist/say.h"

namespace sg::dist {
namespace {

using Type = Message::Type;

constexpr Seconds kLastWords{2};  // for the others to hear why this rank leaves
constexpr Seconds kFarewell{10};  // for the others to end, too
constexpr Seconds kVerdict{5};    // after data did not come, for the reason to be found

}  // namespace

Control::Control(Channel connection, int rank, const ControlSettings& settings, Seconds exit_after)
    : rank_(rank),
      settings_(settings),
      exit_after_(exit_after),
      connection_(std::move(connection)) {
  const BlockSignals block;
  thread_ = std::thread([this] { run(); });
}

Control::~Control() {
  stop_ = true;
  wake_.set();
  thread_.join();
}

void Control::wait_for_all() {
  Lock lock(mutex_);
  changed_.wait(lock, [&] { return !peers_.empty() || !verdict_.empty() || ended_; });
  throw_if_lost();
}

std::string Control::name_of(int rank) const {
  if (peers_.empty()) return fmt::format("rank {}", rank);
  const Peer& p = peers_.at(size_t(rank));
  return fmt::format("rank {} (host {}, process {})", rank, p.host, p.process);
}

void Control::throw_if_lost() const {
  if (!verdict_.empty()) fail(ExitCode::peer, "{}", verdict_);
  if (ended_) fail(ExitCode::peer, "{} has ended, and this rank has not", name_of(0));
}

void Control::post(Lock&, Message message) {
  outbox_.push_back(std::move(message));
  wake_.set();
}

Message Control::ask(Message question) {
  Lock lock(mutex_);
  throw_if_lost();
  answer_.reset();
  post(lock, std::move(question));
  changed_.wait(lock, [&] { return answer_ || !verdict_.empty() || ended_; });
  if (!answer_) throw_if_lost();
  return std::move(*answer_);
}

void Control::set(const std::string& key, std::string value) {
  Lock lock(mutex_);
  throw_if_lost();
  post(lock, {Type::set, {}, {key, std::move(value)}});
}

std::string Control::get(const std::string& key) {
  return std::move(ask({Type::get, {}, {key}}).texts.at(0));
}

std::vector<std::string> Control::meet(MeetingKind kind, std::string_view what, std::string text) {
  check(text.size() < Channel::kMaxBytes / 2 / size_t(ranks()),
        "'{}': a text of {} bytes from each of {} ranks is too long", what, text.size(), ranks());
  Message answer = ask({Type::meet, {int64_t(kind)}, {std::string(what), std::move(text)}});
  if (answer.type == Type::failed) fail(ExitCode::failure, "{}", answer.texts.at(0));
  return std::move(answer.texts);
}

void Control::progress(std::string_view where) {
  const Lock lock(mutex_);
  mine_.where = where;
}

void Control::set_connecting(bool connecting) {
  const Lock lock(mutex_);
  connecting_ = connecting;
}

void Control::set_busy(std::string_view what) {
  Lock lock(mutex_);
  mine_.busy = what;
  beat_now_ = true;
  wake_.set();
}

void Control::broken(const std::string& problem) {
  {
    Lock lock(mutex_);
    changed_.wait_for(lock, kVerdict, [&] { return !verdict_.empty() || ended_; });
    throw_if_lost();
  }
  leave(problem);
  fail(ExitCode::peer, "{}", problem);
}

void Control::watch(Communicator* communicator) {
  const std::lock_guard lock(communicator_mutex_);
  communicator_ = communicator;
  const Lock state(mutex_);
  if (communicator_ && !verdict_.empty()) communicator_->abort(verdict_);
}

void Control::leave(std::string_view reason) {
  Lock lock(mutex_);
  if (parting_ || ended_ || !verdict_.empty()) return;
  parting_ = true;
  post(lock, {Type::leave, {}, {std::string(reason)}});
  changed_.wait_for(lock, kLastWords, [&] { return ended_ || !verdict_.empty(); });
}

void Control::goodbye() {
  Lock lock(mutex_);
  if (parting_ || ended_ || !verdict_.empty()) return;
  parting_ = true;
  beat_now_ = true;
  post(lock, {Type::goodbye});
  changed_.wait_for(lock, std::min(kFarewell, settings_.timeout),
                    [&] { return ended_ || !verdict_.empty(); });
}

void Control::lost(const std::string& verdict) {
  {
    const Lock lock(mutex_);
    if (!verdict_.empty() || ended_) return;
    verdict_ = verdict;
    verdict_at_ = Clock::now();
  }
  changed_.notify_all();
  const std::lock_guard lock(communicator_mutex_);
  if (communicator_) communicator_->abort(verdict);
}

Message Control::beat() {
  const std::lock_guard communicator(communicator_mutex_);
  std::optional<Lane> lane;
  if (const auto reached = communicator_ ? communicator_->reached() : std::nullopt)
    lane =
        Lane{reached->operations, reached->inside, reached->what,
             Clock::now() - std::chrono::duration_cast<Clock::duration>(Seconds(reached->seconds))};
  const Lock lock(mutex_);
  if (lane)
    mine_.tensors = std::move(*lane);
  else
    mine_.tensors.inside = false;
  return beat_of(mine_);
}

void Control::handle(Message& m) {
  if (m.type == Type::verdict) return lost(m.texts.at(0));
  const Lock lock(mutex_);
  if (m.type == Type::welcome) {
    std::vector<Peer> peers;
    for (size_t i = 0; i < m.numbers.size(); ++i)
      peers.push_back({m.texts.at(2 * i), m.texts.at(2 * i + 1), m.numbers[i]});
    peers_ = std::move(peers);
  } else if (m.type == Type::value || m.type == Type::met || m.type == Type::failed) {
    answer_ = std::move(m);
  } else if (m.type == Type::goodbye) {
    ended_ = true;
  }
  changed_.notify_all();
}

void Control::judge(Clock::time_point now) {
  const Seconds silent = now - heard_;
  if (connection_.open() && silent <= settings_.silence()) return;
  Lock lock(mutex_);
  const std::string verdict = fmt::format(
      "{} was lost: {}; this is rank {} {}", name_of(0),
      connection_.open() ? silent_text(silent) : kConnectionEnded, rank_, mine_.describe());
  lock.unlock();
  lost(verdict);
}

void Control::exit_if_stuck(Clock::time_point now) {
  std::string verdict;
  {
    const Lock lock(mutex_);
    const Seconds exit_after = connecting_ ? std::min(exit_after_, Seconds(1)) : exit_after_;
    if (verdict_.empty() || now - verdict_at_ < exit_after) return;
    // A save is worth waiting for, but not for ever.
    if (!mine_.busy.empty() && now - verdict_at_ < exit_after_ + settings_.timeout) return;
    verdict = verdict_;
  }
  say("error", verdict);
  ::_exit(int(ExitCode::peer));
}

void Control::run() {
  Clock::time_point last = Clock::now(), next_beat = last;
  std::vector<Message> out, in;
  while (!stop_) {
    pollfd events[] = {{wake_.fd(), POLLIN, 0},
                       {connection_.fd(), short(POLLIN | (connection_.unsent() ? POLLOUT : 0)), 0}};
    wait_for_events({events, connection_.open() ? 2u : 1u}, next_beat - Clock::now());
    wake_.clear();

    in.clear();
    connection_.receive(in);
    const Clock::time_point now = Clock::now();
    // One that did not run itself has heard nobody.
    if (!in.empty() || now - last > settings_.silence() / 2) heard_ = now;
    last = now;
    for (Message& m : in) handle(m);
    bool beat_now = now >= next_beat;
    {
      const Lock lock(mutex_);
      std::swap(out, outbox_);
      beat_now |= std::exchange(beat_now_, false);
    }
    if (beat_now) {
      connection_.send(beat());
      next_beat = now + std::chrono::duration_cast<Clock::duration>(settings_.beat());
    }
    for (const Message& m : out) connection_.send(m);
    out.clear();
    connection_.send_rest();
    judge(now);
    exit_if_stuck(now);
  }
}

}  // namespace sg::dist
