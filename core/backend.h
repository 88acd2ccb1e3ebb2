// What a kind of device offers besides kernels: memory, queues, copies, captured work.
//
// A backend registers itself, as kernels do (core/slot.h); a build without one for CUDA says so
// when it is asked for. core/cpu and core/cuda have the two backends; tests/emulation has one that
// runs CUDA kernels on the host.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/device.h"

namespace sg {

// Work of a stream, captured once and launched as a whole (a CUDA graph).
class CapturedWork {
 public:
  virtual ~CapturedWork() = default;
  virtual void launch(Stream& stream) = 0;
};

// A point in a stream's work, with the time at which it was reached.
class Event {
 public:
  virtual ~Event() = default;
  virtual void record(Stream& stream) = 0;
  virtual void wait_in(Stream& stream) = 0;  // later work of `stream` starts after the point
  virtual void synchronize() = 0;            // returns when the point has been reached
  virtual double seconds_since(Event& earlier) = 0;  // both must have been reached
};

// What a stream is for: work of different roles overlaps, and events order it.
enum class StreamRole {
  compute,
  copy,           // between host and device, beside the step that computes
  communication,  // with other processes, beside backward
};
constexpr size_t kStreamRoles = 3;

// Why a device cannot be used, and what to do: "no NVIDIA driver is installed", "use --device cpu".
struct Obstacle {
  std::string reason, advice;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // How many devices there are to use; 0 where there is none (no driver, no GPU).
  virtual int device_count() = 0;
  virtual std::optional<Obstacle> obstacle(Device device) = 0;  // none where it can be used
  virtual std::string describe(Device device) = 0;              // "NVIDIA H200, 139.8 GiB"
  virtual size_t free_memory(Device device) = 0;                // bytes

  // Operations are issued to the compute stream. The CPU has one stream for all roles.
  virtual Stream& stream(Device device, StreamRole role = StreamRole::compute) = 0;

  // nullptr where memory is exhausted.
  virtual void* allocate(Device device, size_t bytes) = 0;
  virtual void release(Device device, void* data, size_t bytes) = 0;
  // Pinned (page-locked) host memory: the device copies from and to it without a staging buffer.
  virtual void* allocate_pinned(size_t bytes) = 0;
  virtual void release_pinned(void* data) = 0;

  // In order of the stream. `to` and `from` lie on the device or on the host. The host's memory
  // must stay until the copy is done; where it is not pinned, the copy is done on return.
  virtual void copy(Stream& stream, void* to, const void* from, size_t bytes) = 0;
  virtual void zero(Stream& stream, void* data, size_t bytes) = 0;
  virtual void synchronize(Stream& stream) = 0;  // returns when all work is done
  virtual std::unique_ptr<Event> event(Device device) = 0;

  // Captures what `work` issues to the stream instead of running it; null where the kind of device
  // cannot capture (the CPU).
  virtual std::unique_ptr<CapturedWork> capture(Stream& stream,
                                                const std::function<void()>& work) = 0;
};

// Throws ExitCode::usage when the build has no backend for the type.
Backend& backend(DeviceType type);
bool has_backend(DeviceType type);
// The obstacle that the backend finds, or that the build has no backend.
std::optional<Obstacle> obstacle(Device device);
// Throws ExitCode::usage with the obstacle, if there is one.
void require(Device device);
// The device can be used: the build has its backend, and the backend finds it.
bool available(Device device);
// The environment sets SG_REQUIRE_CUDA to anything but 0: programs and tests fail instead of
// falling back to the CPU or to the emulated GPU.
bool cuda_required();

struct RegisterBackend {
  RegisterBackend(DeviceType type, Backend& backend);
};

}  // namespace sg
