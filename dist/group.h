// The ranks of a run: who they are, what they agree on, and what happens when one is lost.
//
// Rank 0 listens; the others connect to it. Over these connections go short texts, and once a
// second where each rank stands. A rank whose connection ends, that is silent, or that others wait
// for longer than the time limit is lost: on all others, whatever waits for it then throws
// ExitCode::peer with one message that names the rank, its host and process, what it was doing, and
// who waited. A process that cannot throw, since it waits in a driver, says it and ends with that
// exit code.
#pragma once
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/device.h"
#include "dist/communicator.h"
#include "dist/launch.h"

namespace sg::dist {

struct GroupSettings {
  std::chrono::duration<double> timeout{300};  // for a rank to come, and to go on
  std::filesystem::path folder;                // of the file by which rank 0 is found, if need be
  // For a process that cannot throw, after it has heard that a rank is lost: then it ends.
  std::chrono::duration<double> exit_after{10};
};

class Group {
 public:
  virtual ~Group() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;
  bool leads() const { return rank() == 0; }  // writes files and speaks
  bool alone() const { return ranks() == 1; }
  // For a rank to come, and to go on; NCCL's calls have it too.
  virtual std::chrono::duration<double> timeout() const { return GroupSettings{}.timeout; }
  // "rank 2 (host b, process 4711)"
  virtual std::string name_of(int rank) const = 0;

  // Collective; `what` names the call in messages, and is compared between the ranks. The texts of
  // all ranks, by rank; that of rank 0; nothing but that all are there.
  virtual std::vector<std::string> all_gather(std::string_view what, const std::string& text) = 0;
  virtual std::string broadcast(std::string_view what, const std::string& text) = 0;
  virtual void barrier(std::string_view what) = 0;

  // Where this rank is, for messages: "step 1201". Cheap enough for every step.
  virtual void progress(std::string_view where) = 0;
  // While f runs, this rank may take as long as it needs, and no other is lost for waiting:
  // "saving a checkpoint". Others say what they wait for.
  virtual void busy(std::string_view what, const std::function<void()>& f) = 0;

  // Of tensors on the device; made at the first call, which is collective.
  virtual Communicator& communicator(Device device) = 0;

  // This rank ends for a reason of its own: the others say it.
  virtual void leave(std::string_view reason) = 0;
};

// Of several processes: returns when all ranks have come.
std::unique_ptr<Group> join(const Launch& launch, const GroupSettings& settings = {});

}  // namespace sg::dist
