#include "tools/golden/golden.h"

#include "tools/golden/kinds.h"

namespace sg::golden {

Result check_golden(const std::filesystem::path& path, Dtype dtype, Device device) {
  const bool cpu = device.type == DeviceType::cpu;
  if (dtype != Dtype::f32 && dtype != Dtype::bf16 && !(cpu && dtype == Dtype::f64))
    fail(ExitCode::usage, "--dtype: {} is not implemented on {}; use f32{}", name_of(dtype),
         str(device), cpu ? ", bf16 or f64" : " or bf16");
  const Safetensors file = Safetensors::open(path);
  Result result;
  if (file.metadata().contains("module")) result.module = file.metadata().at("module");
  if (const Kind* kind = find_kind(result.module)) result.rows = kind->check({file, dtype, device});
  return result;
}

bool is_golden(const std::filesystem::path& file) {
  if (file.extension() != ".safetensors") return false;
  Metadata metadata = Safetensors::open(file).metadata();
  metadata.erase("format");  // what any program writes
  return !metadata.empty();
}

}  // namespace sg::golden
