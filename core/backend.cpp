#include "core/backend.h"

#include <array>
#include <cstdlib>
#include <string_view>

#include "core/error.h"

namespace sg {
namespace {
constinit std::array<Backend*, kDeviceTypes> g_backends{};
}

RegisterBackend::RegisterBackend(DeviceType type, Backend& backend) {
  g_backends[size_t(type)] = &backend;
}

bool has_backend(DeviceType type) { return g_backends[size_t(type)] != nullptr; }

std::optional<Obstacle> obstacle(Device device) {
  if (has_backend(device.type)) return g_backends[size_t(device.type)]->obstacle(device);
  return Obstacle{fmt::format("this build has no {} backend (it was made without the CUDA toolkit)",
                              name_of(device.type)),
                  "use --device cpu, or build again where nvcc is on PATH"};
}

void require(Device device) {
  if (const auto found = obstacle(device))
    fail(ExitCode::usage, "device {}: {}; {}", str(device), found->reason, found->advice);
}

Backend& backend(DeviceType type) {
  if (!has_backend(type)) [[unlikely]]
    require({type, 0});
  return *g_backends[size_t(type)];
}

bool available(Device device) {
  return has_backend(device.type) && device.index < backend(device.type).device_count();
}

bool cuda_required() {
  const char* value = std::getenv("SG_REQUIRE_CUDA");
  return value && *value && std::string_view(value) != "0";
}

}  // namespace sg
