#include "core/graph.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "core/capture.h"

namespace sg {
namespace {

using Things = std::vector<std::shared_ptr<void>>;
thread_local Things* t_kept = nullptr;  // of the capture under way

class CaptureWithThings : public CapturedWork {
 public:
  CaptureWithThings(Things kept, std::unique_ptr<CapturedWork> work)
      : kept_(std::move(kept)), work_(std::move(work)) {}
  void launch(Stream& stream) override { work_->launch(stream); }

 private:
  Things kept_;  // dropped after the work
  std::unique_ptr<CapturedWork> work_;
};

std::unique_ptr<CapturedWork> capture_work(Backend& backend, Stream& stream,
                                           const std::function<void()>& work) {
  Things kept;
  struct Scope {
    explicit Scope(Things& kept) { t_kept = &kept; }
    ~Scope() { t_kept = nullptr; }
  };
  std::unique_ptr<CapturedWork> captured;
  {
    const Scope scope(kept);
    captured = backend.capture(stream, work);
  }
  return std::make_unique<CaptureWithThings>(std::move(kept), std::move(captured));
}

}  // namespace

void keep_with_capture(std::shared_ptr<void> thing) {
  if (t_kept) t_kept->push_back(std::move(thing));
}

Graph::~Graph() {
  try {
    forget();
  } catch (const Error&) {  // of a device that failed: reported where it was met
  }
}

void Graph::forget() {
  if (!memory_) return;
  Backend& b = backend(device_.type);
  b.synchronize(b.stream(device_));
  captures_.clear();
  memory_.reset();
}

void Graph::issue(const std::function<void()>& work) {
  const size_t before = memory_->stats().in_use;
  work();
  const size_t left = memory_->stats().in_use - before;
  check(left == 0,
        "graph: {} bytes of tensors stay after the work that made them; make them outside", left);
}

void Graph::run(const std::vector<uint64_t>& key, const std::function<void()>& work) {
  if (!whole_ || device_.type == DeviceType::cpu) return work();
  if (!memory_) memory_ = std::make_unique<Allocator>(device_, Allocator::Kind::pool);
  const AllocatorScope scope(device_, *memory_);
  const auto found = captures_.find(key);
  if (found == captures_.end()) {
    if (captures_.size() == most_ && !std::exchange(warned_, true))
      spdlog::warn(
          "{}: {} kinds of steps are captured, the most that are; the operations of others are "
          "issued one by one, which is slower: use fewer image sizes",
          str(device_), most_);
    issue(work);
    if (captures_.size() < most_) captures_[key];  // only now: where work() throws, none is kept
    return;
  }
  Backend& b = backend(device_.type);
  Stream& stream = b.stream(device_);
  std::unique_ptr<CapturedWork>& capture = found->second;
  if (!capture) {
    memory_->set_capturing(true);
    struct End {
      Allocator& memory;
      ~End() { memory.set_capturing(false); }
    } end{*memory_};
    capture = capture_work(b, stream, work);
  }
  memory_->check_guards();  // of earlier launches
  capture->launch(stream);
}

}  // namespace sg
