// A piece of work that is the same at every step, launched as a whole where the device can (a CUDA
// graph). What changes from step to step is read from tensors that are filled before run().
//
//   Graph step(device);
//   for (...) {
//     pixels.copy_(batch);
//     step.run({batch_size}, [&] { loss.copy_(forward(pixels)); });
//   }
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/allocator.h"
#include "core/backend.h"

namespace sg {

constexpr size_t kMaxCaptures = 16;

class Graph {
 public:
  // Without `whole`, operations are always issued one by one, as on the CPU. At most `most` keys
  // are captured; operations of other keys are issued one by one, and a warning says so once.
  explicit Graph(Device device, bool whole = true, size_t most = kMaxCaptures)
      : device_(device), whole_(whole), most_(most) {}
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Does `work` in the order of the device's stream. `key` names all that its operations depend on
  // besides the contents of tensors: shapes, and which tensors. The first time, operations are
  // issued one by one; the second time they are captured; from then on the capture is replayed. So
  // `work` itself does not run every time: it must not wait for the device, read from it, or change
  // anything but tensors made outside. It must release all tensors that it makes: one that outlives
  // it is an error, because all captures share one memory pool, which the next replay overwrites.
  void run(const std::vector<uint64_t>& key, const std::function<void()>& work);
  void forget();  // drops all captures and their memory
  size_t captures() const { return captures_.size(); }
  // Bytes that captures hold and nothing else may use, now and at most.
  size_t reserved() const { return memory_ ? memory_->stats().reserved : 0; }

 private:
  void issue(const std::function<void()>& work);

  Device device_;
  bool whole_;
  size_t most_;
  bool warned_ = false;
  std::unique_ptr<Allocator> memory_;                                        // of all captures
  std::map<std::vector<uint64_t>, std::unique_ptr<CapturedWork>> captures_;  // null: seen once
};

}  // namespace sg
