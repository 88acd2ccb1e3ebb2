// Sums and copies of tensors between the ranks of a run: Gloo on CPUs, NCCL on GPUs.
//
// Calls are collective: all ranks make the same ones, in the same order, with tensors of the same
// size and dtype. Tensors are contiguous and on the communicator's device. Work is in order of the
// device's compute stream, unless it is started beside it. Where a rank is lost, a call throws
// ExitCode::peer, naming it.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/tensor.h"

namespace sg::dist {

// What f32 gradients are sent as. bf16: half the bytes; each rank rounds, sums are f32 on the host.
enum class Wire { f32, bf16 };
Wire parse_wire(std::string_view name);  // throws ExitCode::usage

// Of this process, of reductions that were started beside other work.
struct CommunicationTimes {
  double busy = 0;     // seconds from the begin of each to its end
  double exposed = 0;  // seconds that join() waited for them: what other work did not hide
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;

  // Sums `tensor` over the ranks, in place, beside work that is issued later; what was issued until
  // now is done before. All ranks have the same bits. Sums that were started run one after the
  // other. `what` names it in messages: "slice 2 of 5".
  virtual void start_all_reduce(std::string_view what, Tensor tensor, Wire wire = Wire::f32) = 0;
  // The same for `mine`, of every rank, in order of rank, in `all` (ranks, ...).
  virtual void start_all_gather(std::string_view what, Tensor mine, Tensor all) = 0;
  // Work that is issued from now on finds the results.
  virtual void join() = 0;

  void all_reduce(std::string_view what, Tensor tensor) {
    start_all_reduce(what, std::move(tensor));
    join();
  }
  void all_gather(std::string_view what, Tensor mine, Tensor all) {
    start_all_gather(what, std::move(mine), std::move(all));
    join();
  }
  // The tensor of rank 0, on all.
  virtual void broadcast(std::string_view what, Tensor tensor) = 0;

  // Since the last call.
  virtual CommunicationTimes times() = 0;
};

}  // namespace sg::dist
