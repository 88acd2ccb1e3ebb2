#include "dist/cuda/nccl_connection.h"

#include <algorithm>
#include <thread>

#include "core/error.h"

namespace sg::dist {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kAbortWithin = 10s;  // the group ends the process then (dist/group.h)
// When NCCL has seen that a rank is gone, the group says which one, and why, within this time.
constexpr auto kVerdictWithin = 5s;
const char* const kInit = "ncclCommInitRankConfig";

// By which NCCL's own messages call it; older headers have no such field.
template <class Config>
void set_name(Config& config) {
  if constexpr (requires { config.commName; }) config.commName = "sgformer";
}

}  // namespace

NcclConnection::NcclConnection(const ncclUniqueId& id, int rank, int ranks,
                               std::chrono::duration<double> timeout)
    : timeout_(timeout) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  set_name(config);
  const ncclResult_t result = nccl_.init_rank(&communicator_, ranks, id, rank, &config);
  if (result != ncclSuccess && result != ncclInProgress) throw_failure(kInit, result);
}

void NcclConnection::check_peers() const {
  const std::lock_guard lock(reason_mutex_);
  if (!reason_.empty()) throw Error(ExitCode::peer, reason_);
}

// Nothing is called once it is being aborted, which may hang: so both before and after waiting.
ncclResult_t NcclConnection::enter(const Call& f) {
  check_peers();
  const std::lock_guard lock(mutex_);
  check_peers();
  return f(communicator_);
}

void NcclConnection::wait(const char* what, const std::function<bool()>& done) const {
  const auto begin = Clock::now();
  for (auto pause = 10us; !done(); pause = std::min(2 * pause, 1000us)) {
    if (Clock::now() - begin > timeout_)
      fail(ExitCode::failure,
           "NCCL: {} has not ended after {:.0f} s, and no rank is lost: GPUs do not reach each "
           "other; run again with NCCL_DEBUG=INFO to see which, NCCL_SOCKET_IFNAME names the "
           "network",
           what, timeout_.count());
    std::this_thread::sleep_for(pause);
  }
}

void NcclConnection::finish(const char* name, ncclResult_t result) {
  wait(name, [&] {
    if (result != ncclInProgress) return true;
    const ncclResult_t status = enter([&](ncclComm_t c) { return nccl_.async_error(c, &result); });
    if (status != ncclSuccess) result = status;
    return result != ncclInProgress;
  });
  if (result != ncclSuccess) throw_failure(name, result);
}

void NcclConnection::throw_failure(const char* name, ncclResult_t result) const {
  const std::string what = nccl_.describe(name, result);
  if (result != ncclRemoteError && result != ncclSystemError) throw Error(ExitCode::failure, what);
  for (const auto begin = Clock::now(); Clock::now() - begin < kVerdictWithin;) {
    check_peers();
    std::this_thread::sleep_for(10ms);
  }
  throw Error(result == ncclRemoteError ? ExitCode::peer : ExitCode::failure, what);
}

void NcclConnection::finish_connecting() { finish(kInit, ncclInProgress); }

void NcclConnection::call(const char* name, const Call& f) { finish(name, enter(f)); }

void NcclConnection::check_errors() {
  ncclResult_t result = ncclSuccess;
  const ncclResult_t status = enter([&](ncclComm_t c) { return nccl_.async_error(c, &result); });
  finish("a collective operation", status == ncclSuccess ? result : status);
}

void NcclConnection::close() {
  call("ncclCommFinalize", nccl_.finalize);
  const ncclResult_t result = enter([&](ncclComm_t c) {
    communicator_ = nullptr;
    return nccl_.destroy(c);
  });
  // Where it goes on in the background, nobody can ask any more.
  if (result != ncclSuccess && result != ncclInProgress) throw_failure("ncclCommDestroy", result);
}

void NcclConnection::abort(std::string_view reason) {
  {
    const std::lock_guard lock(reason_mutex_);
    if (!reason_.empty()) return;
    reason_ = reason;
    aborting_ = true;
  }
  // On a thread of its own: NCCL tells the kernels at once, and then waits for what may never come.
  std::thread([self = shared_from_this()] {
    const std::unique_lock lock(self->mutex_, kAbortWithin);
    if (lock.owns_lock() && self->communicator_) self->nccl_.abort(self->communicator_);
    self->aborting_ = false;
  }).detach();
}

void NcclConnection::wait_for_abort() const {
  for (const auto begin = Clock::now(); aborting_ && Clock::now() - begin < kAbortWithin;)
    std::this_thread::sleep_for(1ms);
}

}  // namespace sg::dist
