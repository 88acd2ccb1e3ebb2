// One NCCL communicator, called by one thread at a time.
//
// It is not blocking: a call returns at once and is waited for here, so that the loss of a rank and
// the time limit end the wait. The destructor calls nothing: what is neither closed nor aborted is
// left to the end of the process, as other ranks may be gone.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "dist/cuda/nccl.h"

namespace sg::dist {

class NcclConnection : public std::enable_shared_from_this<NcclConnection> {
 public:
  using Call = std::function<ncclResult_t(ncclComm_t)>;
  // Begins to connect the ranks, from the current device. `timeout` is for each call to end.
  NcclConnection(const ncclUniqueId& id, int rank, int ranks,
                 std::chrono::duration<double> timeout);

  // Returns when what the constructor began has ended; the calls below come after it. All throw
  // ExitCode::peer once abort() has been called, and ExitCode::failure where NCCL fails or takes
  // longer than the time limit.
  void finish_connecting();
  // Returns when the NCCL call of this name has ended.
  void call(const char* name, const Call& f);
  // Of work that was started before.
  void check_errors();
  // Returns when `done` says so; `what` names it in the message if that takes too long.
  void wait(const char* what, const std::function<bool()>& done) const;
  void close();

  // From any thread; returns at once. Kernels that wait for other ranks end.
  void abort(std::string_view reason);
  // When captured work is gone: returns when an abort, if there was one, has ended or takes too
  // long, so that the process does not end in the middle of it.
  void wait_for_abort() const;

 private:
  void check_peers() const;
  ncclResult_t enter(const Call& f);
  void finish(const char* name, ncclResult_t result);
  [[noreturn]] void throw_failure(const char* name, ncclResult_t result) const;

  const Nccl& nccl_ = nccl();
  const std::chrono::duration<double> timeout_;
  std::timed_mutex mutex_;  // of calls to NCCL
  ncclComm_t communicator_ = nullptr;
  std::atomic<bool> aborting_ = false;
  mutable std::mutex reason_mutex_;
  std::string reason_;  // for which it was aborted
};

}  // namespace sg::dist
