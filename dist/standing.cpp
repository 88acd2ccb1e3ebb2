#include "dist/standing.h"

#include <algorithm>
#include <map>

#include "core/error.h"

namespace sg::dist {
namespace {

// What keeps ranks from going on in one lane: those that are behind one that waits.
std::optional<Stall> find_stall(const std::vector<Standing>& ranks, Lane Standing::*member,
                                Clock::time_point now) {
  int64_t furthest = 0;
  for (const Standing& r : ranks) furthest = std::max(furthest, (r.*member).entered);
  Stall stall;
  stall.excused = true;
  Clock::time_point last_entered;
  std::vector<int> behind;
  for (int i = 0; i < int(ranks.size()); ++i) {
    const Lane& lane = ranks[i].*member;
    if (lane.entered < furthest) {
      behind.push_back(i);
    } else if (lane.inside) {
      if (!stall.lane || lane.since < stall.since) {
        stall.since = lane.since;
        stall.lane = &lane;
      }
      last_entered = std::max(last_entered, lane.since);
      stall.waiting.push_back(i);
    }
  }
  if (!stall.lane) return std::nullopt;
  if (behind.empty()) {
    // A rank that is through has what it needs, and the others will have it: data is on its way.
    stall.since = last_entered;
    stall.excused = false;
    return stall;
  }
  // Of those behind, the ones that wait for others themselves are not what it waits for.
  for (const int i : behind)
    if (!ranks[i].texts.inside && !ranks[i].tensors.inside) stall.missing.push_back(i);
  if (stall.missing.empty()) stall.missing = behind;
  Clock::time_point begin = stall.since;
  for (const int i : stall.missing) {
    const Standing& r = ranks[i];
    if (r.gone) stall.hopeless = true;
    if (r.busy.empty()) stall.excused = false;
    begin = std::max(begin, std::min(r.busy_until, now));
  }
  if (!stall.excused) stall.since = begin;
  return stall;
}

}  // namespace

std::string list_of(const std::vector<int>& ranks) {
  constexpr size_t kShown = 16;
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < std::min(ranks.size(), kShown); ++i)
    text += fmt::format("{}{}", i ? ", " : "", ranks[i]);
  return ranks.size() > kShown ? fmt::format("{} and {} more", text, ranks.size() - kShown) : text;
}

std::string Standing::describe() const {
  std::string text = where.empty() ? "before its first step" : fmt::format("in {}", where);
  if (!busy.empty()) text += fmt::format(", {}", busy);
  for (const Lane* lane : {&texts, &tensors})
    if (lane->inside) text += fmt::format(", waiting in {}", lane->what);
  return text;
}

Message beat_of(const Standing& s) {
  const auto since =
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - s.tensors.since);
  return {Message::Type::beat,
          {s.tensors.entered, s.tensors.inside, since.count()},
          {s.where, s.busy, s.tensors.what}};
}

void read_beat(const Message& beat, Standing& s) {
  const auto now = Clock::now();
  s.heard = now;
  if (beat.numbers.size() != 3 || beat.texts.size() != 3) return;
  if (!s.busy.empty() || !beat.texts[1].empty()) s.busy_until = now;
  s.where = beat.texts[0];
  s.busy = beat.texts[1];
  s.tensors = {beat.numbers[0], beat.numbers[1] != 0, beat.texts[2],
               now - std::chrono::milliseconds(beat.numbers[2])};
}

std::optional<Stall> find_stall(const std::vector<Standing>& ranks, Clock::time_point now) {
  const auto texts = find_stall(ranks, &Standing::texts, now);
  const auto tensors = find_stall(ranks, &Standing::tensors, now);
  if (!texts || !tensors) return texts ? texts : tensors;
  if (texts->hopeless != tensors->hopeless) return texts->hopeless ? texts : tensors;
  return texts->since < tensors->since ? texts : tensors;
}

std::string Stall::text(const std::vector<Standing>& ranks, Clock::time_point now) const {
  const double seconds = Seconds(now - since).count();
  if (missing.empty())
    return fmt::format(
        "all ranks have been in {} for {:.0f} s and it does not end; is the network between their "
        "hosts open? GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME choose the interface",
        lane->what, seconds);
  std::string text;
  for (size_t i = 0; i < std::min(missing.size(), size_t{4}); ++i) {
    const Standing& r = ranks[missing[i]];
    text += fmt::format("{}{} {} {}", i ? "; " : "", r.name,
                        r.gone ? "has ended without" : "has not reached", lane->what);
    if (!r.gone) text += fmt::format(": it is {}", r.describe());
  }
  if (missing.size() > 4) text += fmt::format("; and {} more", missing.size() - 4);
  const char* verb = waiting.size() == 1 ? "waits" : "wait";
  return fmt::format("{}; {} {} for {:.0f} s", text, list_of(waiting), verb, seconds);
}

std::string silent_text(Seconds silent) {
  return fmt::format(
      "no sign of life for {:.0f} s (it is stopped, or its host or the network is down)",
      silent.count());
}

std::string waiting_text(const std::vector<Standing>& ranks, int lost) {
  std::map<std::string, std::vector<int>> waiting;
  for (int i = 0; i < int(ranks.size()); ++i)
    for (const Lane* lane : {&ranks[i].texts, &ranks[i].tensors})
      if (lane->inside && !ranks[i].gone && i != lost) waiting[lane->what].push_back(i);
  std::string text;
  for (const auto& [what, who] : waiting)
    text += fmt::format("; {} {} in {}", list_of(who), who.size() == 1 ? "waits" : "wait", what);
  return text;
}

}  // namespace sg::dist
