#include "dist/communicator.h"

#include <array>

#include "core/error.h"

namespace sg::dist {
namespace {
constinit std::array<CommunicatorMaker*, kDeviceTypes> g_makers{};
}

RegisterCommunicator::RegisterCommunicator(DeviceType type, CommunicatorMaker* maker) {
  g_makers[size_t(type)] = maker;
}

bool has_communicator(DeviceType type) { return g_makers[size_t(type)] != nullptr; }

std::unique_ptr<Communicator> make_communicator(Group& group, Device device) {
  if (!has_communicator(device.type))
    fail(ExitCode::usage,
         "several processes on {}: this build has no NCCL: where it was made there was no CUDA "
         "toolkit, or no nccl.h; install NCCL (apt: libnccl-dev; pip: nvidia-nccl-cu13) and build "
         "again, or use --device cpu",
         str(device));
  return g_makers[size_t(device.type)](group, device);
}

}  // namespace sg::dist
