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
    capture = b.capture(stream, work);
  }
  memory_->check_guards();  // of earlier launches
  capture->launch(stream);
}

}  // namespace sg
