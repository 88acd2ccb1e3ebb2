// NCCL between GPUs.
//
// Operations run on the device's stream for communication. Events order it after the stream that
// computes where they are started, and that after them in join(): so while a step is captured
// (core/graph.h), its reductions become nodes of the same graph, and later launches call nothing
// here.
#include "dist/communicator.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "core/allocator.h"
#include "core/backend.h"
#include "core/capture.h"
#include "core/cuda/runtime.h"
#include "core/tensor_kernels.h"
#include "dist/cuda/nccl_connection.h"
#include "dist/cuda/progress.h"
#include "dist/group.h"

namespace sg::dist {
namespace {

using Clock = std::chrono::steady_clock;

// "GPU-7d6c3c5e-...", as nvidia-smi has it.
std::string uuid_of(Device device) {
  cudaDeviceProp p{};
  SG_CUDA(cudaGetDeviceProperties(&p, device.index));
  std::string text = "GPU-";
  for (size_t i = 0; i < sizeof p.uuid.bytes; ++i)
    text += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                        uint8_t(p.uuid.bytes[i]));
  return text;
}

// NCCL would see both itself, late and in words that name no rank.
void compare_ranks(Group& group, Device device) {
  const std::vector<std::string> gpus = group.all_gather("UUIDs of GPUs", uuid_of(device));
  const std::vector<std::string> versions = group.all_gather("versions of NCCL", nccl().version());
  std::map<std::string, int> first;
  for (int rank = 0; rank < group.ranks(); ++rank) {
    if (versions[size_t(rank)] != versions[0])
      fail(ExitCode::usage,
           "NCCL: {} has version {}, {} has {}: install the same version on all hosts",
           group.name_of(0), versions[0], group.name_of(rank), versions[size_t(rank)]);
    const auto [other, is_new] = first.try_emplace(gpus[size_t(rank)], rank);
    if (!is_new)
      fail(ExitCode::usage,
           "{} and {} compute on the same GPU, {}: each process needs its own; start no more "
           "processes than there are GPUs, and check CUDA_VISIBLE_DEVICES",
           group.name_of(other->second), group.name_of(rank), other->first);
  }
}

ncclUniqueId share_id(Group& group) {
  ncclUniqueId id{};
  std::string text;
  if (group.leads()) {
    if (const ncclResult_t result = nccl().get_unique_id(&id); result != ncclSuccess)
      throw Error(ExitCode::failure, nccl().describe("ncclGetUniqueId", result));
    for (const char c : id.internal) text += fmt::format("{:02x}", uint8_t(c));
  }
  text = group.broadcast("NCCL's id", text);
  check(text.size() == 2 * sizeof id.internal, "NCCL's id: expected {} letters, found {}",
        2 * sizeof id.internal, text.size());
  for (size_t i = 0; i < sizeof id.internal; ++i)
    id.internal[i] = char(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  return id;
}

ncclDataType_t type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return ncclFloat32;
    case Dtype::bf16:
      return ncclBfloat16;
    case Dtype::f64:
      return ncclFloat64;
    case Dtype::i32:
      return ncclInt32;
    case Dtype::u8:
      return ncclUint8;
  }
  fail(ExitCode::failure, "NCCL: dtype {} is not supported", name_of(dtype));
}

// On the device, in memory that is no graph's. They outlive a communicator that was not closed:
// giving memory back would wait for work that may never end.
struct Resources {
  explicit Resources(Device device) : memory(device) {
    Backend& b = backend(device.type);
    void* const pinned = b.allocate_pinned(sizeof(Progress));
    check(pinned != nullptr, "NCCL: no pinned memory is left");
    progress = new (pinned) Progress{};
    started = b.event(device), ended = b.event(device);
  }
  ~Resources() { backend(DeviceType::cuda).release_pinned(progress); }
  Resources(const Resources&) = delete;
  Resources& operator=(const Resources&) = delete;

  Allocator memory;
  std::vector<Tensor> rounded;  // what is sent in bf16; the last one is the largest
  Progress* progress = nullptr;
  std::unique_ptr<Event> started, ended;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Group& group, Device device)
      : group_(group),
        device_(device),
        compute_(current_stream(device)),
        stream_(backend(device.type).stream(device, StreamRole::communication)),
        resources_(std::make_unique<Resources>(device)) {
    compare_ranks(group, device);
    connection_ =
        std::make_shared<NcclConnection>(share_id(group), rank(), ranks(), group.timeout());
  }
  ~NcclCommunicator() override {
    if (closed_) return;
    connection_->wait_for_abort();
    static auto& left = *new std::vector<std::unique_ptr<Resources>>;
    left.push_back(std::move(resources_));
  }

  int rank() const override { return group_.rank(); }
  int ranks() const override { return group_.ranks(); }

  void start_all_reduce(std::string_view what, Tensor tensor, Wire wire) override {
    check(wire == Wire::f32 || tensor.dtype() == Dtype::f32,
          "NCCL: {}: only f32 is sent as bf16, found {}", what, name_of(tensor.dtype()));
    start(what, {tensor}, [&] {
      Tensor sent = wire == Wire::bf16 ? rounded(tensor.numel()) : tensor;
      if (wire == Wire::bf16) kernels::convert(stream_, tensor, sent);
      connection_->call("ncclAllReduce", [&](ncclComm_t c) {
        return nccl().all_reduce(sent.raw(), sent.raw(), size_t(sent.numel()),
                                 type_of(sent.dtype()), ncclSum, c, raw_stream());
      });
      if (wire == Wire::bf16) kernels::convert(stream_, sent, tensor);
    });
  }

  void start_all_gather(std::string_view what, Tensor mine, Tensor all) override {
    check(all.dtype() == mine.dtype() && all.numel() == ranks() * mine.numel(),
          "NCCL: {}: expected {} elements of {} for all ranks, found {} of {}", what,
          ranks() * mine.numel(), name_of(mine.dtype()), all.numel(), name_of(all.dtype()));
    start(what, {mine, all}, [&] {
      connection_->call("ncclAllGather", [&](ncclComm_t c) {
        return nccl().all_gather(mine.raw(), all.raw(), size_t(mine.numel()), type_of(mine.dtype()),
                                 c, raw_stream());
      });
    });
  }

  void broadcast(std::string_view what, Tensor tensor) override {
    start(what, {tensor}, [&] {
      connection_->call("ncclBroadcast", [&](ncclComm_t c) {
        return nccl().broadcast(tensor.raw(), tensor.raw(), size_t(tensor.numel()),
                                type_of(tensor.dtype()), 0, c, raw_stream());
      });
    });
    join();
  }

  void join() override {
    if (in_use_.empty()) return;
    mark_join(compute_, resources_->progress);
    resources_->ended->record(stream_);
    resources_->ended->wait_in(compute_);
    mark_joined(compute_, resources_->progress);
    in_use_.clear();
  }

  CommunicationTimes times() override {
    const CommunicationTimes all{1e-9 * double(load(resources_->progress->busy)),
                                 1e-9 * double(load(resources_->progress->exposed))};
    const CommunicationTimes before = std::exchange(told_, all);
    return {all.busy - before.busy, all.exposed - before.exposed};
  }

  void check_peers() override {
    if (connected_) connection_->check_errors();
  }

  void close() override {
    check_peers();
    check(in_graphs_.use_count() == 1,
          "NCCL: reductions of captured steps are to be closed; drop the steps before "
          "(Graph::forget), as NCCL waits for them for ever");
    connect();
    synchronize("the last operations");
    group_.barrier("the end of communication between GPUs");
    connection_->close();
    closed_ = true;
  }

  std::optional<Reached> reached() override {
    const std::lock_guard lock(mutex_);
    Progress& p = *resources_->progress;
    // In this order: what ends in between is not taken for what has not ended.
    const uint64_t ended = load(p.ended), begun = load(p.begun);
    if (begun == 0) return Reached{};
    if (begun != seen_) seen_ = begun, seen_at_ = Clock::now();
    const std::chrono::duration<double> since = Clock::now() - seen_at_;
    return Reached{int64_t(begun >> 16), ended != begun, names_.at(begun & 0xffff), since.count()};
  }

  void abort(std::string_view reason) override { connection_->abort(reason); }

 private:
  static uint64_t load(uint64_t& v) { return std::atomic_ref(v).load(std::memory_order_acquire); }
  cudaStream_t raw_stream() const { return static_cast<cudaStream_t>(stream_.handle); }

  // Runs f, which issues to stream_ what the operation is, after what was issued to compute_.
  void start(std::string_view what, std::initializer_list<Tensor> tensors,
             const std::function<void()>& f) {
    for (const Tensor& t : tensors)
      check(t.device() == device_, "NCCL: {}: expected a tensor on {}, found one on {}", what,
            str(device_), str(t.device()));
    connect();
    keep_with_capture(in_graphs_);
    in_use_.insert(in_use_.end(), tensors);
    resources_->started->record(compute_);
    resources_->started->wait_in(stream_);
    mark_begin(stream_, resources_->progress, index_of(what));
    f();
    mark_end(stream_, resources_->progress);
  }

  // Names are numbers on the device, the same for as long as a graph may have them.
  uint16_t index_of(std::string_view what) {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(names_, what);
    if (found != names_.end()) return uint16_t(found - names_.begin());
    check(names_.size() < 0xffff, "NCCL: {}: too many operations of different names", what);
    names_.emplace_back(what);
    return uint16_t(names_.size() - 1);
  }

  // Operations run one after the other, so one buffer serves all. A smaller one is kept, as graphs
  // may refer to it.
  Tensor rounded(int64_t n) {
    auto& all = resources_->rounded;
    if (all.empty() || all.back().numel() < n) {
      const AllocatorScope scope(device_, resources_->memory);
      all.push_back(empty({n}, Dtype::bf16, device_));
    }
    return all.back().slice(0, n);
  }

  // At the first call, which must not be captured. GPUs connect in the first reduction, which may
  // hang where they do not reach each other: so one is made at once, and its time is limited.
  void connect() {
    if (std::exchange(connected_, true)) return;
    connection_->finish_connecting();
    const AllocatorScope scope(device_, resources_->memory);
    Tensor sum = full({1}, rank() + 1, Dtype::f32, device_);
    all_reduce("the first reduction", sum);
    synchronize("the first reduction");
    const double expected = 0.5 * ranks() * (ranks() + 1), found = sum.item();
    check(found == expected, "NCCL: the first reduction: expected {}, found {}", expected, found);
    times();  // it is not of the run
  }

  // Waits for both streams, as long as no rank is lost.
  void synchronize(const char* what) {
    for (const Stream* s : {&stream_, &compute_})
      connection_->wait(what, [&] {
        const cudaError_t status = cudaStreamQuery(static_cast<cudaStream_t>(s->handle));
        if (status == cudaErrorNotReady)
          connection_->check_errors(), cudaGetLastError();
        else
          cuda::check_call(status, "cudaStreamQuery");
        return status == cudaSuccess;
      });
  }

  Group& group_;
  const Device device_;
  Stream &compute_, &stream_;
  std::unique_ptr<Resources> resources_;
  std::shared_ptr<NcclConnection> connection_;  // an abort under way shares it
  bool connected_ = false, closed_ = false;
  std::vector<Tensor> in_use_;  // by what was started and not joined
  CommunicationTimes told_;
  // One more owner for each operation of a captured step that exists.
  const std::shared_ptr<void> in_graphs_ = std::make_shared<int>();

  std::mutex mutex_;  // of what follows: reached() is called from another thread
  std::vector<std::string> names_;
  uint64_t seen_ = 0;
  Clock::time_point seen_at_;
};

const RegisterCommunicator r{DeviceType::cuda,
                             [](Group& group, Device device) -> std::unique_ptr<Communicator> {
                               return std::make_unique<NcclCommunicator>(group, device);
                             }};

}  // namespace
}  // namespace sg::dist
