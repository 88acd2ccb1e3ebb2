#include "core/graph.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace sg {

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
  records_.clear();
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
  const auto found = records_.find(key);
  if (found == records_.end()) {
    if (records_.size() == most_ && !std::exchange(warned_, true))
      spdlog::warn(
          "{}: {} kinds of steps are recorded, the most that are; the operations of others are "
          "issued one by one, which is slower: use fewer image sizes",
          str(device_), most_);
    issue(work);
    if (records_.size() < most_) records_[key];  // only now: where work() throws, none is kept
    return;
  }
  Backend& b = backend(device_.type);
  Stream& stream = b.stream(device_);
  std::unique_ptr<CapturedWork>& record = found->second;
  if (!record) {
    memory_->set_recording(true);
    struct End {
      Allocator& memory;
      ~End() { memory.set_recording(false); }
    } end{*memory_};
    record = b.capture(stream, work);
  }
  memory_->check_guards();  // of earlier launches
  record->launch(stream);
}

}  // namespace sg
