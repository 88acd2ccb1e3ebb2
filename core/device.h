// Devices (cpu, cuda:N), streams, and the dtype-independent description of both.
#pragma once
#include <string>
#include <string_view>

namespace sg {

enum class DeviceType : int { cpu, cuda };
constexpr int kDeviceTypes = 2;

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

std::string_view name_of(DeviceType type);
std::string str(Device device);           // "cpu", "cuda:1"
Device parse_device(std::string_view s);  // throws ExitCode::usage

// An ordered queue of work on one device. On the CPU work runs at once, in the caller.
struct Stream {
  Device device;
  void* handle = nullptr;  // the device's own queue
};

// The stream that this thread's operations on `device` use.
Stream& current_stream(Device device);

}  // namespace sg
