#include "dist/group.h"

#include "core/error.h"
#include "dist/alone.h"

namespace sg::dist {

Wire parse_wire(std::string_view name) {
  if (name == "f32") return Wire::f32;
  if (name == "bf16") return Wire::bf16;
  fail(ExitCode::usage, "--reduce-dtype: expected f32 or bf16, found '{}'", name);
}

std::unique_ptr<Group> join(const Launch& launch, const GroupSettings&) {
  check(launch.ranks == 1, "dist: only one process is supported, found {}", launch.ranks);
  return alone();
}

}  // namespace sg::dist
