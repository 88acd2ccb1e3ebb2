// Sums and copies of tensors between the ranks of a run: Gloo on CPUs, NCCL on GPUs.
//
// Calls are collective: all ranks make the same ones, in the same order, with tensors of the same
// size and dtype. Tensors are contiguous and on the communicator's device. Work is in order of the
// device's compute stream, unless it is started beside it. Where a rank is lost, a call throws
// ExitCode::peer, naming it.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/tensor.h"

namespace sg::dist {

class Group;

// What f32 gradients are sent as. bf16: half the bytes; each rank rounds. Sums are f32 on the host;
// NCCL rounds them to bf16 each time that it adds a rank.
enum class Wire { f32, bf16 };
Wire parse_wire(std::string_view name);  // throws ExitCode::usage

// Of this process, of reductions that were started beside other work.
struct CommunicationTimes {
  double busy = 0;     // seconds from the begin of each to its end
  double exposed = 0;  // seconds that join() waited for them: what other work did not hide
};

// How far a device is in its collectives. On a GPU nothing else tells where one hangs.
struct Reached {
  int64_t operations = 0;  // begun so far
  bool inside = false;     // the last one has not ended
  std::string what;        // its name
  double seconds = 0;      // since it was first seen to have begun
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

  // Since the last call, of what the device has done so far.
  virtual CommunicationTimes times() = 0;

  // Throws what a call would, where a rank is lost. Captured work makes no calls when it is
  // launched, so this is for after each step, before its results are used.
  virtual void check_peers() {}
  // Collective, at the end of a run without errors: nothing is called after it. Work that captured
  // calls must have been dropped (Graph::forget); throws ExitCode::failure where it has not. A
  // communicator that is not closed waits for nobody when it is destroyed.
  virtual void close() {}

  // From any thread, at any time. None where there is nobody to wait for.
  virtual std::optional<Reached> reached() { return {}; }
  // Gives up, as a rank is lost or this one leaves: what is under way ends soon with any result,
  // and this and later calls throw ExitCode::peer with the reason. Returns at once.
  virtual void abort(std::string_view reason) { (void)reason; }
};

// How communicators of a kind of device are made; backends register it, as kernels do
// (core/slot.h). `group` outlives what is made; the call is collective.
using CommunicatorMaker = std::unique_ptr<Communicator>(Group& group, Device device);
struct RegisterCommunicator {
  RegisterCommunicator(DeviceType type, CommunicatorMaker* maker);
};
bool has_communicator(DeviceType type);
// Throws ExitCode::usage where the build has none.
std::unique_ptr<Communicator> make_communicator(Group& group, Device device);

}  // namespace sg::dist
