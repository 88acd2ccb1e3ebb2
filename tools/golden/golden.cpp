#include "tools/golden/golden.h"

#include "tools/golden/json_case.h"
#include "tools/golden/kinds.h"

namespace sg::golden {
namespace {

Result check_json(const std::filesystem::path& path) try {
  const JsonCase c = read_json_case(path);
  Result result{.module = c.value.value("module", "")};
  if (const JsonKind* kind = find_json_kind(result.module)) result.rows = kind->check(c);
  return result;
} catch (const nlohmann::json::exception& e) {
  fail(ExitCode::failure, "{}: not of the golden form: {}", path.string(), e.what());
}

}  // namespace

Result check_golden(const std::filesystem::path& path, Dtype dtype, Device device) {
  const bool cpu = device.type == DeviceType::cpu;
  if (dtype != Dtype::f32 && dtype != Dtype::bf16 && !(cpu && dtype == Dtype::f64))
    fail(ExitCode::usage, "--dtype: {} is not implemented on {}; use f32{}", name_of(dtype),
         str(device), cpu ? ", bf16 or f64" : " or bf16");
  if (is_json_case(path)) return check_json(path);
  const Safetensors file = Safetensors::open(path);
  Result result;
  if (file.metadata().contains("module")) result.module = file.metadata().at("module");
  if (const Kind* kind = find_kind(result.module)) result.rows = kind->check({file, dtype, device});
  return result;
}

bool is_golden(const std::filesystem::path& file) {
  if (is_json_case(file)) return true;
  if (file.extension() != ".safetensors") return false;
  Metadata metadata = Safetensors::open(file).metadata();
  metadata.erase("format");  // what any program writes
  return !metadata.empty();
}

}  // namespace sg::golden
