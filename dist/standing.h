// Where each rank of a run stands, and which of them is lost.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dist/message.h"
#include "dist/socket.h"

namespace sg::dist {

// The collectives of one kind that a rank has taken part in; all ranks make the same ones.
struct Lane {
  int64_t entered = 0;  // the last one counts
  bool inside = false;
  std::string what;         // of the last one
  Clock::time_point since;  // when it was entered
};

struct Standing {
  std::string name;   // "rank 2 (host b, process 4711)"
  bool gone = false;  // said goodbye
  Clock::time_point heard;
  std::string where;             // "step 1201"
  std::string busy;              // "saving a checkpoint"
  Clock::time_point busy_until;  // the last time that it was
  Lane texts, tensors;

  std::string describe() const;  // "in step 1201, saving a checkpoint"
};

// The standing of a client, but for texts, as a message, and back.
Message beat_of(const Standing& standing);
void read_beat(const Message& beat, Standing& standing);

// A collective that some ranks are in, and others not.
struct Stall {
  std::vector<int> waiting, missing;  // ranks; nobody missing: all are in it, and it does not end
  const Lane* lane = nullptr;         // of a rank that waits
  Clock::time_point since;            // when the one that waits longest began to
  bool hopeless = false;              // a missing one has said goodbye
  bool excused = false;               // all that are missing are busy

  // "slice 2 of 5 of step 1201" of whom, and where the missing ones are.
  std::string text(const std::vector<Standing>& ranks, Clock::time_point now) const;
};

// The one that has lasted longest.
std::optional<Stall> find_stall(const std::vector<Standing>& ranks, Clock::time_point now);

// How a rank was lost, after "rank 2 was lost: ".
inline constexpr const char* kConnectionEnded =
    "its connection ended without a word (it was killed, or crashed)";
std::string silent_text(Seconds silent);
// Who but the one that was lost waits in what: "; ranks 0, 1 wait in slice 2", or "".
std::string waiting_text(const std::vector<Standing>& ranks, int lost);

// "rank 2", "ranks 0, 1, 3"; long lists are cut.
std::string list_of(const std::vector<int>& ranks);

}  // namespace sg::dist
