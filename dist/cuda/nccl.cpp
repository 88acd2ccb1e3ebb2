#include "dist/cuda/nccl.h"

#include "core/cuda/libraries.h"
#include "core/error.h"

namespace sg::dist {
namespace {

const char* const kFile = "libnccl.so.2";

}  // namespace

Nccl::Nccl()
    : library({.file = kFile,
               .purpose = "communication between GPUs",
               .folders = cuda::library_folders(kFile),
               .advice = "install it (apt: libnccl2; pip: nvidia-nccl-cu13) and see that its "
                         "folder is in LD_LIBRARY_PATH, or use --device cpu"}) {}

std::string Nccl::version() const {
  int v = 0;
  if (const ncclResult_t result = get_version(&v); result != ncclSuccess)
    throw Error(ExitCode::failure, describe("ncclGetVersion", result));
  return fmt::format("{}.{}.{}", v / 10000, v % 10000 / 100, v % 100);
}

std::string Nccl::describe(const char* call, ncclResult_t result) const {
  // It is that of the process: NCCL ignores the communicator.
  const char* const last = last_error(nullptr);
  return fmt::format("NCCL: {} failed: {}{}; run again with NCCL_DEBUG=INFO to see why", call,
                     error_string(result), last && *last ? fmt::format(" ({})", last) : "");
}

const Nccl& nccl() {
  static const Nccl& n = *new Nccl;
  return n;
}

}  // namespace sg::dist
