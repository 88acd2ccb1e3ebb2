#include "tests/cudart/library.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>

#include "tests/emulation/emulator.h"
#include "tests/support/faults.h"

using Work = std::function<void()>;

// Of a recording: work of a stream, or its wait for nodes of another, up to one.
struct Node {
  cudaStream_t stream;
  Work work;
  cudaStream_t other = nullptr;
  size_t last = 0;
};
struct CUgraph_st {
  cudaStream_t origin;  // the stream that records; others may join
  std::vector<Node> nodes;
  cudaError_t spoiled = cudaSuccess;  // why the recording is lost
};
struct CUevent_st {
  cudaStream_t stream = nullptr;  // that it was recorded in last
  uint64_t recorded = 0, reached = 0;
  cudaGraph_t graph = nullptr;  // the recording that it belongs to, and its node there
  size_t node = 0;
};
struct CUgraphExec_st {
  std::vector<Node> nodes;
};
struct CUstream_st {
  int device;
  size_t role;  // as in sg::StreamRole
  std::deque<Work> waiting;
  cudaGraph_t recorded = nullptr;  // where work is being recorded

  bool copies() const { return role == 1; }
  bool waits() const {
    const auto& c = sg::test::cudart();
    return std::array{c.computing_waits, c.copying_waits, c.communicating_waits}.at(role);
  }

  void finish() {
    while (!waiting.empty()) {
      const Work work = std::move(waiting.front());
      waiting.pop_front();
      work();
    }
  }
};

namespace {

using sg::test::cudart;

struct Block {
  size_t bytes;
  int device;  // -1: of the host
};
std::map<const void*, Block> g_blocks;
std::vector<cudaStream_t> g_streams;
thread_local int t_device = 0;
constexpr size_t kUsualShared = 48 << 10;  // dynamic shared memory that need not be asked for

cudaError_t enter(const char* call) {
  auto& c = cudart();
  c.calls.push_back(call);
  const auto it = c.failing.find(call);
  return it == c.failing.end() ? cudaSuccess : c.failing.extract(it).mapped();
}
// At the head of each function that may be told to fail.
#define ENTER(call) \
  if (const cudaError_t status = enter(call); status != cudaSuccess) return status

cudaStream_t recording() {
  const auto it = std::find_if(g_streams.begin(), g_streams.end(),
                               [](cudaStream_t s) { return s->recorded != nullptr; });
  return it == g_streams.end() ? nullptr : *it;
}
// What must not be done while work is recorded spoils the recording.
cudaError_t spoil() {
  recording()->recorded->spoiled = cudaErrorStreamCaptureInvalidated;
  return cudaErrorStreamCaptureUnsupported;
}
#define NOT_WHILE_RECORDING() \
  if (recording()) return spoil()

void push(cudaStream_t s, Work work) {
  if (s->recorded) return s->recorded->nodes.push_back({s, std::move(work)});
  s->waiting.push_back(std::move(work));
  if (!s->waits()) s->finish();
}

// Streams that wait are as late in a record as its waits allow.
void replay(const std::vector<Node>& nodes) {
  struct Lane {
    std::vector<size_t> nodes;
    size_t done = 0;
  };
  std::map<cudaStream_t, Lane> lanes;
  for (size_t i = 0; i < nodes.size(); ++i) lanes[nodes[i].stream].nodes.push_back(i);
  const std::function<void(cudaStream_t, size_t)> run = [&](cudaStream_t stream, size_t last) {
    Lane& lane = lanes[stream];
    while (lane.done < lane.nodes.size() && lane.nodes[lane.done] <= last) {
      const Node& node = nodes[lane.nodes[lane.done++]];
      if (node.other)
        run(node.other, node.last);
      else
        node.work();
    }
  };
  for (const bool late : {false, true})
    for (size_t i = 0; i < nodes.size(); ++i)
      if (nodes[i].stream->waits() == late) run(nodes[i].stream, i);
}

// All streams that joined are waited for, to their last node.
bool joined(const CUgraph_st& graph) {
  std::map<cudaStream_t, size_t> last, waited;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    last[node.stream] = i;
    if (node.other && node.stream == graph.origin) waited[node.other] = node.last;
  }
  return std::all_of(last.begin(), last.end(), [&](const auto& l) {
    return l.first == graph.origin || (waited.contains(l.first) && waited[l.first] == l.second);
  });
}

const Block* block_of(const void* p) {
  auto it = g_blocks.upper_bound(p);
  if (it == g_blocks.begin()) return nullptr;
  --it;
  const auto* begin = static_cast<const char*>(it->first);
  return static_cast<const char*>(p) < begin + it->second.bytes ? &it->second : nullptr;
}

size_t used(int device) {
  size_t bytes = 0;
  for (const auto& [data, block] : g_blocks)
    if (block.device == device) bytes += block.bytes;
  return bytes;
}

cudaError_t add_block(void** data, size_t bytes, int device) {
  *data = std::aligned_alloc(512, (std::max<size_t>(bytes, 1) + 511) / 512 * 512);
  g_blocks[*data] = {bytes, device};
  ++cudart().allocations;
  return cudaSuccess;
}
cudaError_t remove_block(void* data) {
  if (!data) return cudaSuccess;
  for (cudaStream_t s : g_streams) s->finish();
  if (!g_blocks.erase(data)) return cudaErrorInvalidValue;
  std::free(data);
  return cudaSuccess;
}

void reach(cudaEvent_t event, uint64_t time) {
  if (event->reached < time) event->stream->finish();
}

const bool hooked = [] {
  sg::test::cuda_is_emulated = true;
  sg::test::fail_cuda_launch = sg::emulation::fail_launch;
  sg::test::limit_cuda_memory = [](size_t bytes) { cudart().gpus[0].memory = bytes; };
  sg::test::delay_cuda_work = [](bool computing, bool copying) {
    cudart().computing_waits = computing, cudart().copying_waits = copying;
  };
  return true;
}();

}  // namespace

namespace sg::test {
Cudart& cudart() {
  static Cudart& state = *new Cudart;
  return state;
}
size_t Cudart::count(const std::string& call) const {
  return size_t(std::count(calls.begin(), calls.end(), call));
}
}  // namespace sg::test

// The kernels of the emulation.
namespace sg::emulation {
void enqueue(const Stream& stream, Work work) {
  push(static_cast<cudaStream_t>(stream.handle), std::move(work));
}
}  // namespace sg::emulation

extern "C" {

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t e) {
  return e == cudaErrorIllegalAddress ? "cudaErrorIllegalAddress" : "cudaErrorOther";
}
const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaErrorIllegalAddress           ? "an illegal memory access was encountered"
         : e == cudaErrorNoDevice               ? "no CUDA-capable device is detected"
         : e == cudaErrorNoKernelImageForDevice ? "no kernel image is available"
                                                : "another failure";
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = cudart().driver;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  const auto& c = cudart();
  if (c.driver < CUDART_VERSION / 1000 * 1000) return cudaErrorInsufficientDriver;
  *count = int(c.gpus.size());
  return *count ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  const auto& gpu = cudart().gpus.at(size_t(device));
  std::strcpy(p->name, gpu.name.c_str());
  p->major = gpu.major, p->minor = gpu.minor, p->totalGlobalMem = gpu.memory;
  p->sharedMemPerBlockOptin = gpu.shared;
  std::memcpy(p->uuid.bytes, gpu.uuid.data(), std::min(gpu.uuid.size(), sizeof p->uuid.bytes));
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  ENTER("cudaSetDevice");
  t_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = t_device;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = cudart().gpus.at(size_t(t_device)).memory;
  *free = *total - used(t_device);
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  ENTER("cudaMalloc");
  if (used(t_device) + bytes > cudart().gpus.at(size_t(t_device)).memory)
    return cudaErrorMemoryAllocation;
  return add_block(data, bytes, t_device);
}
cudaError_t cudaFree(void* data) {
  ENTER("cudaFree");
  NOT_WHILE_RECORDING();
  return remove_block(data);
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  ENTER("cudaHostAlloc");
  return add_block(data, bytes, -1);
}
cudaError_t cudaFreeHost(void* data) {
  ENTER("cudaFreeHost");
  NOT_WHILE_RECORDING();
  return remove_block(data);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags != cudaStreamNonBlocking) return cudaErrorInvalidValue;
  const auto before = std::count_if(g_streams.begin(), g_streams.end(),
                                    [](cudaStream_t s) { return s->device == t_device; });
  g_streams.push_back(*stream = new CUstream_st{t_device, size_t(before), {}});
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  ENTER("cudaStreamSynchronize");
  NOT_WHILE_RECORDING();
  stream->finish();
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  ENTER("cudaStreamQuery");
  NOT_WHILE_RECORDING();
  if (cudart().stuck && !stream->waiting.empty()) return cudaErrorNotReady;
  stream->finish();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  ENTER("cudaStreamWaitEvent");
  if (event->graph) {  // of a recording: only what is in it may wait
    if (!recording() || recording()->recorded != event->graph) return cudaErrorCapturedEvent;
    stream->recorded = event->graph;
    event->graph->nodes.push_back({stream, nullptr, event->stream, event->node});
    return cudaSuccess;
  }
  NOT_WHILE_RECORDING();
  const uint64_t time = event->recorded;
  push(stream, [=] { reach(event, time); });
  return cudaSuccess;
}

// On memory that is not pinned the host waits; it may not be recorded, for it may be gone later.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  ENTER(stream->copies() ? "cudaMemcpyAsync beside" : "cudaMemcpyAsync");
  if (kind != cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  const bool pageable = !block_of(to) || !block_of(from);
  if (pageable && stream->recorded) return spoil();
  push(stream, [=] { std::memmove(to, from, bytes); });
  if (pageable) stream->finish();
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  ENTER("cudaMemsetAsync");
  if (!block_of(data)) return cudaErrorInvalidValue;
  push(stream, [=] { std::memset(data, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  ENTER("cudaEventCreate");
  *event = new CUevent_st;
  ++cudart().events;
  return cudaSuccess;
}
// Work that has yet to reach it goes on: kept to the end of the program.
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  static auto& destroyed = *new std::vector<cudaEvent_t>;
  destroyed.push_back(event);
  --cudart().events;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  ENTER("cudaEventRecord");
  event->stream = stream, event->graph = stream->recorded;
  if (event->graph) {
    event->node = event->graph->nodes.size();
    push(stream, [] {});
    return cudaSuccess;
  }
  NOT_WHILE_RECORDING();
  push(stream, [event, time = ++event->recorded] { event->reached = time; });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  ENTER("cudaEventSynchronize");
  NOT_WHILE_RECORDING();
  reach(event, event->recorded);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
  for (cudaEvent_t e : {begin, end})
    if (e->recorded == 0) return cudaErrorInvalidResourceHandle;
  for (cudaEvent_t e : {begin, end})
    if (e->reached < e->recorded) return cudaErrorNotReady;
  *ms = 2;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  ENTER("cudaStreamBeginCapture");
  if (stream->recorded || mode != cudaStreamCaptureModeRelaxed) return cudaErrorIllegalState;
  stream->recorded = new CUgraph_st{stream, {}};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const cudaError_t status = enter("cudaStreamEndCapture");
  if (!stream->recorded) return cudaErrorIllegalState;
  const cudaGraph_t recorded = stream->recorded;
  const cudaError_t spoiled = recorded->spoiled != cudaSuccess ? recorded->spoiled
                              : joined(*recorded)              ? cudaSuccess
                                                               : cudaErrorStreamCaptureUnjoined;
  for (cudaStream_t s : g_streams) s->recorded = nullptr;
  if (status != cudaSuccess || spoiled != cudaSuccess) {
    delete recorded, *graph = nullptr;
    return status != cudaSuccess ? status : spoiled;
  }
  *graph = recorded;
  ++cudart().graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* record, cudaGraph_t graph, unsigned long long) {
  ENTER("cudaGraphInstantiate");
  *record = new CUgraphExec_st{graph->nodes};
  ++cudart().records;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  --cudart().graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t record) {
  for (cudaStream_t s : g_streams) s->finish();
  delete record;
  --cudart().records;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t record, cudaStream_t stream) {
  ENTER("cudaGraphLaunch");
  push(stream, [record] { replay(record->nodes); });
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t f, void* data) {
  ENTER("cudaLaunchHostFunc");
  push(stream, [=] { f(data); });
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int bytes) {
  ENTER("cudaFuncSetAttribute");
  const bool fits = size_t(bytes) <= cudart().gpus.at(size_t(t_device)).shared;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || !fits)
    return cudaErrorInvalidValue;
  cudart().shared_limits[{t_device, kernel}] = size_t(bytes);
  return cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* l, const void* kernel, void** arguments) {
  ENTER("cudaLaunchKernel");
  if (l->stream->device != t_device) return cudaErrorInvalidResourceHandle;
  if (l->dynamicSmemBytes > std::max(kUsualShared, cudart().shared_limits[{t_device, kernel}]))
    return cudaErrorInvalidValue;
  cudart().starts.push_back({kernel, l->gridDim, l->blockDim, l->dynamicSmemBytes, l->stream,
                             *static_cast<int*>(arguments[0])});
  return cudaSuccess;
}

}  // extern "C"
