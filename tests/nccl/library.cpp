#include "tests/nccl/library.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/dtype.h"

using sg::bf16;
using sg::test::fake_nccl;

namespace {

constexpr int kMostRanks = 4;
constexpr size_t kPart = 1 << 20;  // bytes that a rank hands over at once

struct Shared {
  std::atomic<uint64_t> arrivals;
  struct Operation {
    char kind;
    size_t count;
    ncclDataType_t type;
    bool operator==(const Operation&) const = default;
  } operations[kMostRanks];
  char data[kMostRanks][kPart];
};

std::mutex g_mutex;  // of what is noted: an abort comes from another thread

ncclResult_t enter(const char* call) {
  const std::lock_guard lock(g_mutex);
  auto& n = fake_nccl();
  n.calls.push_back(call);
  const auto it = n.failing.find(call);
  return it == n.failing.end() ? ncclSuccess : n.failing.extract(it).mapped();
}
#define ENTER(call) \
  if (const ncclResult_t status = enter(call); status != ncclSuccess) return status

void fault(const std::string& what) {
  const std::lock_guard lock(g_mutex);
  fake_nccl().faults.push_back(what);
}

size_t size_of(ncclDataType_t type) {
  return type == ncclUint8 ? 1 : type == ncclBfloat16 ? 2 : type == ncclFloat64 ? 8 : 4;
}

// to += from
void add(ncclDataType_t type, void* to, const void* from, size_t n) {
  const auto sum = [&]<class T>(T*) {
    for (size_t i = 0; i < n; ++i) {
      T& t = static_cast<T*>(to)[i];
      const T f = static_cast<const T*>(from)[i];
      if constexpr (std::is_same_v<T, bf16>)
        t = bf16(float(t) + float(f));
      else
        t = T(t + f);
    }
  };
  switch (type) {
    case ncclFloat32:
      return sum(static_cast<float*>(nullptr));
    case ncclFloat64:
      return sum(static_cast<double*>(nullptr));
    case ncclInt32:
      return sum(static_cast<int32_t*>(nullptr));
    case ncclUint8:
      return sum(static_cast<uint8_t*>(nullptr));
    case ncclBfloat16:
      return sum(static_cast<bf16*>(nullptr));
    default:
      std::abort();
  }
}

}  // namespace

struct ncclComm {
  int rank, device;
  std::string name;
  Shared* shared;
  int ranks;
  uint64_t arrived = 0;  // how often, of this rank
  int polls_left = 0;
  bool finalized = false;
  std::atomic<bool> aborted{false};
  std::vector<std::unique_ptr<struct Operation>> operations;  // graphs may have them

  void arrive() { ++arrived, ++shared->arrivals; }
  bool all_arrived() const { return shared->arrivals >= arrived * uint64_t(ranks); }
  // False where it is aborted before all have come.
  bool wait() {
    for (arrive(); !all_arrived(); std::this_thread::sleep_for(std::chrono::microseconds(50)))
      if (aborted) return false;
    return true;
  }
};

// What a stream is given.
struct Operation {
  ncclComm_t comm;
  Shared::Operation same;  // on all ranks
  const void* send;
  void* receive;

  static void run(void* p) { static_cast<Operation*>(p)->run(); }
  void run() const {
    while (fake_nccl().hangs && !comm->aborted) std::this_thread::yield();
    comm->shared->operations[comm->rank] = same;
    if (comm->aborted || !comm->wait()) return;
    for (int r = 0; r < comm->ranks; ++r)
      if (comm->shared->operations[r] != same) {
        std::fprintf(stderr, "NCCL: ranks %d and %d do not do the same\n", comm->rank, r);
        std::abort();
      }
    const size_t size = size_of(same.type), most = kPart / size;
    for (size_t i = 0; i < std::max<size_t>(same.count, 1); i += most)
      if (!run_part(i * size, std::min(most, same.count - i))) return;
  }
  bool run_part(size_t offset, size_t n) const {
    const size_t bytes = n * size_of(same.type);
    auto& data = comm->shared->data;
    std::memcpy(data[comm->rank], static_cast<const char*>(send) + offset, bytes);
    if (!comm->wait()) return false;
    char* const to = static_cast<char*>(receive) + offset;
    if (same.kind == 'g') {
      for (int r = 0; r < comm->ranks; ++r)
        std::memcpy(to + size_t(r) * same.count * size_of(same.type), data[r], bytes);
    } else {
      std::memcpy(to, data[0], bytes);
      for (int r = 1; same.kind == 'r' && r < comm->ranks; ++r) add(same.type, to, data[r], n);
    }
    return comm->wait();
  }
};

namespace {

// At the head of each call on a communicator. What is a fault of the caller.
ncclResult_t check(ncclComm_t comm, const char* call) {
  int device = -1;
  cudaGetDevice(&device);
  if (device != comm->device) fault(std::string(call) + " on another device");
  if (comm->aborted) fault(std::string(call) + " after the abort");
  if (comm->finalized && std::strcmp(call, "ncclCommDestroy") != 0)
    fault(std::string(call) + " after the end");
  if (comm->polls_left == 0) return ncclSuccess;
  fault(std::string(call) + " on a busy communicator");
  return ncclInvalidArgument;
}
#define CHECK_CALL(comm, call) \
  if (const ncclResult_t status = check(comm, call); status != ncclSuccess) return status

ncclResult_t begin_progress(ncclComm_t comm) {
  comm->polls_left = fake_nccl().polls;
  return comm->polls_left ? ncclInProgress : ncclSuccess;
}

ncclResult_t issue(ncclComm_t comm, Operation operation, cudaStream_t stream) {
  comm->operations.push_back(std::make_unique<Operation>(operation));
  if (cudaLaunchHostFunc(stream, Operation::run, comm->operations.back().get()) != cudaSuccess)
    return ncclUnhandledCudaError;
  return begin_progress(comm);
}

}  // namespace

namespace sg::test {
FakeNccl& fake_nccl() {
  static FakeNccl& state = *new FakeNccl;
  return state;
}
}  // namespace sg::test

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  ENTER("ncclGetVersion");
  *version = fake_nccl().version;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclSystemError   ? "unhandled system error"
         : result == ncclRemoteError ? "remote process exited or there was a network error"
                                     : "another failure";
}
const char* ncclGetLastError(ncclComm_t) { return fake_nccl().last_error.c_str(); }

// The name of memory that the ranks share.
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  ENTER("ncclGetUniqueId");
  static int count = 0;
  std::snprintf(id->internal, sizeof id->internal, "/sg_nccl_%d_%d", int(::getpid()), count++);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  ENTER("ncclCommInitRankConfig");
  const ncclConfig_t expected = NCCL_CONFIG_INITIALIZER;
  if (config->magic != expected.magic || config->size != expected.size || rank >= ranks ||
      ranks > kMostRanks)
    return ncclInvalidArgument;
  auto& n = fake_nccl();
  n.config = *config, n.name = config->commName ? config->commName : "";
  int device = -1;
  cudaGetDevice(&device);
  const int file = ::shm_open(id.internal, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ::ftruncate(file, sizeof(Shared)) != 0) return ncclSystemError;
  void* const memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  if (memory == MAP_FAILED) return ncclSystemError;
  auto* const shared = static_cast<Shared*>(memory);  // of zeros where it is new
  static auto& all = *new std::vector<ncclComm_t>;    // those that nobody destroys, too
  all.push_back(*comm = new ncclComm{rank, device, id.internal, shared, ranks});
  (*comm)->arrive();
  ++n.communicators;
  return begin_progress(*comm);
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* result) {
  if (comm->aborted) fault("ncclCommGetAsyncError after the abort");
  const auto& n = fake_nccl();
  *result = ncclInProgress;
  if (n.never_ready || !comm->all_arrived()) return ncclSuccess;
  if (comm->polls_left > 0 && --comm->polls_left > 0) return ncclSuccess;
  ::shm_unlink(comm->name.c_str());  // all have opened it
  *result = n.asynchronous;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  ENTER("ncclAllReduce");
  CHECK_CALL(comm, "ncclAllReduce");
  if (op != ncclSum) return ncclInvalidArgument;
  return issue(comm, {comm, {'r', count, type}, send, receive}, stream);
}
ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  ENTER("ncclAllGather");
  CHECK_CALL(comm, "ncclAllGather");
  return issue(comm, {comm, {'g', count, type}, send, receive}, stream);
}
ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  ENTER("ncclBroadcast");
  CHECK_CALL(comm, "ncclBroadcast");
  if (root != 0) return ncclInvalidArgument;
  return issue(comm, {comm, {'b', count, type}, send, receive}, stream);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  ENTER("ncclCommFinalize");
  CHECK_CALL(comm, "ncclCommFinalize");
  comm->finalized = true;
  comm->arrive();
  return begin_progress(comm);
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  ENTER("ncclCommDestroy");
  CHECK_CALL(comm, "ncclCommDestroy");
  if (!comm->finalized) fault("ncclCommDestroy before ncclCommFinalize");
  if (fake_nccl().graphs_exist()) fault("ncclCommDestroy before its graphs are gone");
  ::munmap(comm->shared, sizeof *comm->shared);
  delete comm;
  --fake_nccl().communicators;
  return ncclSuccess;
}
// As NCCL: kernels are told at once; the rest waits until graphs are gone.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->aborted = true;
  ENTER("ncclCommAbort");
  while (fake_nccl().graphs_exist()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ++fake_nccl().aborts;
  return ncclSuccess;
}

}  // extern "C"
