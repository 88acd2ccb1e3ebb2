#include "core/cuda/runtime.h"

#include <array>
#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "core/backend.h"

namespace sg::cuda {

namespace {

constexpr int kMinMajor = 8;  // compute capability 8.0: bf16 matrix units, asynchronous copies
// Bytes a block needs for the largest tiles: A100 has so much, H100 and later more, GeForce less.
constexpr size_t kMinShared = 163 << 10;

// Sticky errors: a kernel broke the CUDA context. A later call reports it, and so do all after it.
bool is_sticky(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
      return true;
    default:
      return false;
  }
}

// Neither machine code of the GPU's kind is in the program, nor PTX that the driver can compile.
bool has_no_code(cudaError_t status) {
  return status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction ||
         status == cudaErrorUnsupportedPtxVersion;
}

std::string reason(cudaError_t status) {
  return fmt::format("{} ({}){}", cudaGetErrorString(status), cudaGetErrorName(status),
                     is_sticky(status)
                         ? "; earlier work of the device did this: to have it named, run "
                           "again with --eager and CUDA_LAUNCH_BLOCKING=1"
                         : "");
}

cudaDeviceProp properties(int device) {
  cudaDeviceProp p{};
  SG_CUDA(cudaGetDeviceProperties(&p, device));
  return p;
}

}  // namespace

void check_call(cudaError_t status, const char* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();  // clears an error that is not sticky
  fail(ExitCode::failure, "CUDA: {} failed: {}", call, reason(status));
}

void check_launch(cudaError_t status, const Launch& l, std::span<const int> built_for) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();
  if (has_no_code(status)) {
    int device = 0;
    SG_CUDA(cudaGetDevice(&device));
    const cudaDeviceProp gpu = properties(device);
    std::string kinds;
    for (const int kind : built_for)
      kinds += fmt::format("{}{}.{}", kinds.empty() ? "" : ", ", kind / 100, kind % 100 / 10);
    fail(ExitCode::usage,
         "CUDA: the program has no code for {} (compute capability {}.{}), it was built for {}: "
         "kernel {}: {}; build it again on this machine with -DCMAKE_CUDA_ARCHITECTURES=native",
         gpu.name, gpu.major, gpu.minor, kinds, l.name, reason(status));
  }
  fail(ExitCode::failure,
       "CUDA: kernel {} failed to start: {}; grid {} x {} x {}, block {} x {} x {}, {} bytes of "
       "shared memory",
       l.name, reason(status), l.grid.x, l.grid.y, l.grid.z, l.block.x, l.block.y, l.block.z,
       l.shared);
}

cudaError_t allow_shared(Device device, const void* kernel, size_t bytes) {
  static std::mutex& mutex = *new std::mutex;
  static auto& limits = *new std::map<std::pair<int, const void*>, size_t>;
  const std::lock_guard lock(mutex);
  size_t& limit = limits[{device.index, kernel}];
  if (bytes <= limit) return cudaSuccess;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
  if (status == cudaSuccess) limit = bytes;
  return status;
}

namespace {

cudaStream_t raw(const Stream& s) { return static_cast<cudaStream_t>(s.handle); }

class CudaEvent : public Event {
 public:
  CudaEvent() { SG_CUDA(cudaEventCreate(&event_)); }
  ~CudaEvent() override { cudaEventDestroy(event_); }
  void record(Stream& stream) override { SG_CUDA(cudaEventRecord(event_, raw(stream))); }
  void wait_in(Stream& stream) override { SG_CUDA(cudaStreamWaitEvent(raw(stream), event_, 0)); }
  void synchronize() override { SG_CUDA(cudaEventSynchronize(event_)); }
  double seconds_since(Event& earlier) override {
    float ms = 0;
    SG_CUDA(cudaEventElapsedTime(&ms, static_cast<CudaEvent&>(earlier).event_, event_));
    return 1e-3 * double(ms);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaGraph : public CapturedWork {
 public:
  explicit CudaGraph(cudaGraph_t graph) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check_call(status, "cudaGraphInstantiate");
  }
  ~CudaGraph() override { cudaGraphExecDestroy(executable_); }
  void launch(Stream& stream) override { SG_CUDA(cudaGraphLaunch(executable_, raw(stream))); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

thread_local int t_current = -1;  // the device of this thread's calls

// Makes the device current for this thread, cheaply when it already is.
void use(Device device) {
  if (t_current == device.index) return;
  SG_CUDA(cudaSetDevice(device.index));
  t_current = device.index;
}

std::string version(int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); }

class CudaBackend : public Backend {
 public:
  int device_count() override { return found().count; }

  std::optional<Obstacle> obstacle(Device device) override {
    const Found f = found();
    if (f.count == 0) return f.obstacle;
    if (device.index >= f.count)
      return Obstacle{
          fmt::format("there {} {} device{}", f.count == 1 ? "is" : "are", f.count,
                      f.count == 1 ? "" : "s"),
          f.count == 1 ? "use cuda:0" : fmt::format("use cuda:0 to cuda:{}", f.count - 1)};
    const cudaDeviceProp p = properties(device.index);
    if (p.major < kMinMajor)
      return Obstacle{
          fmt::format("{} has compute capability {}.{}, at least {}.0 (Ampere) is needed", p.name,
                      p.major, p.minor, kMinMajor),
          "use --device cpu"};
    if (p.sharedMemPerBlockOptin < kMinShared)
      return Obstacle{
          fmt::format("{} has {} KiB of shared memory a block, {} KiB are needed (A100, H100 and "
                      "later data-center GPUs have them)",
                      p.name, p.sharedMemPerBlockOptin >> 10, kMinShared >> 10),
          "use --device cpu"};
    return {};
  }

  std::string describe(Device device) override {
    const cudaDeviceProp p = properties(device.index);
    return fmt::format("{}, {:.1f} GiB", p.name, double(p.totalGlobalMem) / double(1 << 30));
  }

  size_t free_memory(Device device) override {
    use(device);
    size_t free = 0, total = 0;
    SG_CUDA(cudaMemGetInfo(&free, &total));
    return free;
  }

  Stream& stream(Device device, StreamRole role) override { return streams(device)[size_t(role)]; }

  void* allocate(Device device, size_t bytes) override {
    use(device);
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check_call(status, "cudaMalloc");
    return data;
  }
  // Waits for work that uses it. A device that failed has been reported before; nothing is thrown
  // from here, where the way leads out of that error.
  void release(Device device, void* data, size_t) override {
    cudaSetDevice(device.index), t_current = device.index;
    cudaFree(data);
  }
  void* allocate_pinned(size_t bytes) override {
    void* data = nullptr;
    const cudaError_t status = cudaHostAlloc(&data, bytes, cudaHostAllocDefault);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check_call(status, "cudaHostAlloc");
    return data;
  }
  void release_pinned(void* data) override { cudaFreeHost(data); }

  void copy(Stream& stream, void* to, const void* from, size_t bytes) override {
    if (bytes) SG_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, raw(stream)));
  }
  void zero(Stream& stream, void* data, size_t bytes) override {
    if (bytes) SG_CUDA(cudaMemsetAsync(data, 0, bytes, raw(stream)));
  }
  void synchronize(Stream& stream) override { SG_CUDA(cudaStreamSynchronize(raw(stream))); }
  std::unique_ptr<Event> event(Device device) override {
    use(device);
    return std::make_unique<CudaEvent>();
  }

  std::unique_ptr<CapturedWork> capture(Stream& stream,
                                        const std::function<void()>& work) override {
    // Relaxed: the allocator may ask for memory while work is captured, and NCCL's own threads do
    // their part. It lets other threads do as they like, those that watch other ranks among them.
    SG_CUDA(cudaStreamBeginCapture(raw(stream), cudaStreamCaptureModeRelaxed));
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(raw(stream), &graph);
      if (graph) cudaGraphDestroy(graph);
      throw;
    }
    SG_CUDA(cudaStreamEndCapture(raw(stream), &graph));
    return std::make_unique<CudaGraph>(graph);
  }

 private:
  struct Found {
    int count = 0;
    Obstacle obstacle;  // where there is none
  };
  using Streams = std::array<Stream, kStreamRoles>;

  static Found found() {
    Found f;
    const cudaError_t status = cudaGetDeviceCount(&f.count);
    if (status == cudaSuccess && f.count > 0) return f;
    cudaGetLastError();
    f.count = 0;
    int driver = 0;
    cudaDriverGetVersion(&driver);
    const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
    if (driver == 0)
      f.obstacle = {"no NVIDIA driver is installed", "use --device cpu"};
    else if (status == cudaErrorInsufficientDriver)
      f.obstacle = {fmt::format("the driver knows CUDA {}, this build needs {}", version(driver),
                                version(CUDART_VERSION)),
                    "install a newer NVIDIA driver, or use --device cpu"};
    else
      f.obstacle = {
          fmt::format("no usable NVIDIA GPU was found ({}{})",
                      status == cudaSuccess ? "no device" : cudaGetErrorString(status),
                      visible ? fmt::format(", CUDA_VISIBLE_DEVICES is '{}'", visible) : ""),
          "use --device cpu"};
    return f;
  }

  // One set a device and process: operations are issued by one thread.
  Streams& streams(Device device) {
    const std::lock_guard lock(mutex_);
    if (size_t(device.index) >= streams_.size()) streams_.resize(size_t(device.index) + 1);
    auto& all = streams_[size_t(device.index)];
    if (!all) {
      require(device);
      use(device);
      auto made = std::make_unique<Streams>();
      for (Stream& s : *made) {
        cudaStream_t handle = nullptr;
        SG_CUDA(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking));
        s = {device, handle};
      }
      all = std::move(made);
    }
    use(device);
    return *all;
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Streams>> streams_;
};

// Never destroyed: tensors with static lifetime may be released late.
CudaBackend& the_backend = *new CudaBackend;
const RegisterBackend r{DeviceType::cuda, the_backend};

}  // namespace
}  // namespace sg::cuda
