// NCCL, opened when it is first used, and its errors.
#pragma once
#include <nccl.h>

#include <string>

#include "core/library.h"

namespace sg::dist {

// What is used of NCCL.
struct Nccl {
  Nccl();
  Library library;
#define SG_NCCL(member, name) decltype(name)* const member = library.function<decltype(name)>(#name)
  SG_NCCL(get_version, ncclGetVersion);
  SG_NCCL(get_unique_id, ncclGetUniqueId);
  SG_NCCL(init_rank, ncclCommInitRankConfig);
  SG_NCCL(async_error, ncclCommGetAsyncError);
  SG_NCCL(error_string, ncclGetErrorString);
  SG_NCCL(last_error, ncclGetLastError);
  SG_NCCL(all_reduce, ncclAllReduce);
  SG_NCCL(all_gather, ncclAllGather);
  SG_NCCL(broadcast, ncclBroadcast);
  SG_NCCL(finalize, ncclCommFinalize);
  SG_NCCL(destroy, ncclCommDestroy);
  SG_NCCL(abort, ncclCommAbort);
#undef SG_NCCL

  std::string version() const;  // "2.28.9"
  // "NCCL: ncclAllReduce failed: unhandled system error (socket closed); ..."
  std::string describe(const char* call, ncclResult_t result) const;
};

// Throws ExitCode::usage where it cannot be opened.
const Nccl& nccl();

}  // namespace sg::dist
