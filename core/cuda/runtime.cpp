#include "core/cuda/runtime.h"

#include <mutex>
#include <vector>

#include "core/backend.h"

namespace sg::cuda {

void check_call(cudaError_t status, const char* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();  // an error that does not stick is forgotten
  fail(ExitCode::failure, "CUDA: {} failed: {} ({})", call, cudaGetErrorString(status),
       cudaGetErrorName(status));
}

void check_launch(cudaError_t status, const char* kernel, dim3 grid, dim3 block, size_t shared) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();
  fail(ExitCode::failure,
       "CUDA: kernel {} failed to start: {} ({}); grid {} x {} x {}, block {} x {} x {}, {} bytes "
       "of shared memory",
       kernel, cudaGetErrorString(status), cudaGetErrorName(status), grid.x, grid.y, grid.z,
       block.x, block.y, block.z, shared);
}

namespace {

constexpr int kLeastMajor = 8;  // compute capability 8.0: bf16 matrix units, asynchronous copies
// Of a block, for the largest tiles: A100 has so much, H100 and later more, GeForce cards less.
constexpr size_t kLeastShared = 163 << 10;

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

// Makes the device current for this thread, cheaply when it already is.
void use(Device device) {
  thread_local int current = -1;
  if (current == device.index) return;
  SG_CUDA(cudaSetDevice(device.index));
  current = device.index;
}

std::string version(int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); }

class CudaBackend : public Backend {
 public:
  int device_count() override { return found().count; }

  void require(Device device) override {
    const Found& f = found();
    if (f.count == 0) fail(ExitCode::usage, "device {}: {}", str(device), f.reason);
    if (device.index >= f.count)
      fail(ExitCode::usage, "device {}: there {} {} device{}: use cuda:0{}", str(device),
           f.count == 1 ? "is" : "are", f.count, f.count == 1 ? "" : "s",
           f.count == 1 ? "" : fmt::format(" to cuda:{}", f.count - 1));
    cudaDeviceProp p{};
    SG_CUDA(cudaGetDeviceProperties(&p, device.index));
    if (p.major < kLeastMajor)
      fail(ExitCode::usage,
           "device {}: {} has compute capability {}.{}, at least {}.0 (Ampere) is needed; use "
           "--device cpu",
           str(device), p.name, p.major, p.minor, kLeastMajor);
    if (p.sharedMemPerBlockOptin < kLeastShared)
      fail(ExitCode::usage,
           "device {}: {} has {} KiB of shared memory a block, {} KiB are needed (A100, H100 and "
           "later data-center cards have them); use --device cpu",
           str(device), p.name, p.sharedMemPerBlockOptin >> 10, kLeastShared >> 10);
  }

  std::string describe(Device device) override {
    cudaDeviceProp p{};
    SG_CUDA(cudaGetDeviceProperties(&p, device.index));
    return fmt::format("{}, {:.1f} GiB", p.name, double(p.totalGlobalMem) / double(1 << 30));
  }

  size_t free_memory(Device device) override {
    use(device);
    size_t free = 0, total = 0;
    SG_CUDA(cudaMemGetInfo(&free, &total));
    return free;
  }

  Stream& stream(Device device) override { return streams(device).compute; }
  Stream& copy_stream(Device device) override { return streams(device).copy; }

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
  void release(Device device, void* data, size_t) override {
    use(device);
    cudaFree(data);  // waits for work that uses it; a failure here has been reported before
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
    // Relaxed: the allocator may ask for memory while work is recorded.
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
    std::string reason;  // where there is none
  };
  struct Streams {
    Stream compute, copy;
  };

  static const Found& found() {
    static const Found f = [] {
      Found result;
      const cudaError_t status = cudaGetDeviceCount(&result.count);
      if (status == cudaSuccess && result.count > 0) return result;
      cudaGetLastError();
      result.count = 0;
      int driver = 0;
      cudaDriverGetVersion(&driver);
      if (driver == 0)
        result.reason = "no NVIDIA driver is installed; use --device cpu";
      else if (status == cudaErrorInsufficientDriver)
        result.reason = fmt::format(
            "the driver knows CUDA {}, this build needs {}; install a newer NVIDIA driver, or use "
            "--device cpu",
            version(driver), version(CUDART_VERSION));
      else
        result.reason =
            fmt::format("no usable NVIDIA card was found ({}); use --device cpu",
                        status == cudaSuccess ? "no device" : cudaGetErrorString(status));
      return result;
    }();
    return f;
  }

  // One pair a device and process: operations are issued by one thread.
  Streams& streams(Device device) {
    const std::lock_guard lock(mutex_);
    if (size_t(device.index) >= streams_.size()) streams_.resize(size_t(device.index) + 1);
    auto& pair = streams_[size_t(device.index)];
    if (!pair) {
      require(device);
      use(device);
      cudaStream_t compute = nullptr, copy = nullptr;
      SG_CUDA(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking));
      SG_CUDA(cudaStreamCreateWithFlags(&copy, cudaStreamNonBlocking));
      pair = std::make_unique<Streams>(Streams{{device, compute}, {device, copy}});
    }
    use(device);
    return *pair;
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Streams>> streams_;
};

// Never destroyed: tensors with static lifetime may be released late.
CudaBackend& the_backend = *new CudaBackend;
const RegisterBackend r{DeviceType::cuda, the_backend};

}  // namespace
}  // namespace sg::cuda
