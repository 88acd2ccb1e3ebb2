#include "core/graph.h"

namespace sg {

Graph::~Graph() {
  try {
    forget();
  } catch (const Error&) {  // of a device that failed: reported where it was met
  }
}

void Graph::forget() {
  if (records_.empty()) return;
  Backend& b = backend(device_.type);
  b.synchronize(b.stream(device_));
  records_.clear();
}

void Graph::run(const std::vector<uint64_t>& key, const std::function<void()>& work) {
  if (!whole_ || device_.type == DeviceType::cpu) return work();
  Backend& b = backend(device_.type);
  Stream& stream = b.stream(device_);
  std::unique_ptr<Record>& record = records_[key];
  if (!record) {
    auto fresh = std::make_unique<Record>(device_);
    const AllocatorScope scope(device_, fresh->memory);
    work();
    record = std::move(fresh);  // only now: where work() throws, there is nothing to keep
    return;
  }
  if (!record->captured) {
    const AllocatorScope scope(device_, record->memory);
    record->memory.keep();
    record->captured = b.capture(stream, work);
  }
  record->memory.check_guards();  // of earlier launches
  record->captured->launch(stream);
}

size_t Graph::reserved() const {
  size_t bytes = 0;
  for (const auto& [key, record] : records_)
    if (record) bytes += record->memory.stats().reserved;
  return bytes;
}

}  // namespace sg
