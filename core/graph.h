// A piece of work that is the same at every step, started as a whole where the device can (a CUDA
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

constexpr size_t kMostRecords = 16;

class Graph {
 public:
  // Not `whole`: operations are always issued one by one, as on the CPU. At most `most` keys are
  // recorded; the operations of others are issued one by one, which is said once.
  explicit Graph(Device device, bool whole = true, size_t most = kMostRecords)
      : device_(device), whole_(whole), most_(most) {}
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Does `work` in order of the device's stream. `key` names all that its operations depend on
  // besides the contents of tensors: shapes, and which tensors. The first time, operations are
  // issued one by one; the second time they are recorded; from then on the record is started. So
  // `work` itself does not run every time: it must not wait for the device, read from it, or change
  // anything but tensors made outside. Tensors that it makes are gone when it returns: one that
  // stays is an error, for all records share one pool of memory, which the next one overwrites.
  void run(const std::vector<uint64_t>& key, const std::function<void()>& work);
  void forget();  // drops all records and their memory
  size_t records() const { return records_.size(); }
  // Bytes that records hold and nothing else may use, now and at most.
  size_t reserved() const { return memory_ ? memory_->stats().reserved : 0; }

 private:
  void issue(const std::function<void()>& work);

  Device device_;
  bool whole_;
  size_t most_;
  bool warned_ = false;
  std::unique_ptr<Allocator> memory_;                                       // of all records
  std::map<std::vector<uint64_t>, std::unique_ptr<CapturedWork>> records_;  // null: seen once
};

}  // namespace sg
