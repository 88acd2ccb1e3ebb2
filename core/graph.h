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

class Graph {
 public:
  // Not `whole`: operations are always issued one by one, as on the CPU.
  explicit Graph(Device device, bool whole = true) : device_(device), whole_(whole) {}
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Does `work` in order of the device's stream. `key` names all that its operations depend on
  // besides the contents of tensors: shapes, and which tensors. The first time, operations are
  // issued one by one; the second time they are recorded; from then on the record is started. So
  // `work` itself does not run every time: it must not wait for the device, read from it, or change
  // anything but tensors made outside. Tensors that it makes are gone when it returns.
  void run(const std::vector<uint64_t>& key, const std::function<void()>& work);
  void forget();  // drops all records and their memory
  // Bytes that records hold and nothing else may use, now and at most.
  size_t reserved() const;

 private:
  struct Record {
    Allocator memory;
    std::unique_ptr<CapturedWork> captured;
    explicit Record(Device device) : memory(device) {}
  };
  Device device_;
  bool whole_;
  std::map<std::vector<uint64_t>, std::unique_ptr<Record>> records_;
};

}  // namespace sg
