#include "core/device.h"

#include <charconv>

#include "core/backend.h"
#include "core/error.h"

namespace sg {

std::string_view name_of(DeviceType type) { return type == DeviceType::cpu ? "cpu" : "cuda"; }

std::string str(Device d) {
  return d.type == DeviceType::cpu ? "cpu" : fmt::format("cuda:{}", d.index);
}

Device parse_device(std::string_view s) {
  if (s == "cpu") return {};
  Device d{DeviceType::cuda, 0};
  std::string_view rest = s;
  if (rest.starts_with("cuda")) {
    rest.remove_prefix(4);
    if (rest.empty()) return d;
    rest.remove_prefix(rest.starts_with(':') ? 1 : 0);
    const auto [end, ec] = std::from_chars(rest.data(), rest.data() + rest.size(), d.index);
    if (ec == std::errc() && end == rest.data() + rest.size() && d.index >= 0) return d;
  }
  fail(ExitCode::usage, "device '{}' is unknown; expected auto, cpu, cuda or cuda:N", s);
}

Stream& current_stream(Device device) { return backend(device.type).stream(device); }

}  // namespace sg
