#include "core/cpu/bf16_products.h"

#include <fmt/format.h>

#include <cstdlib>
#include <oneapi/dnnl/dnnl.hpp>

namespace sg {
namespace {

// Each set of instructions is a bit, beside those of the sets that it includes.
bool has(dnnl::cpu_isa isa) {
  static const auto effective = unsigned(dnnl::get_effective_cpu_isa());
  return (effective & unsigned(isa)) == unsigned(isa);
}

}  // namespace

bool has_bf16_products() { return has(dnnl::cpu_isa::avx512_core_bf16); }

// oneDNN counts AMX as usable only where the kernel has granted the process its registers.
bool has_amx() { return has(dnnl::cpu_isa::avx512_core_amx); }

std::string cpu_instructions() {
  using enum dnnl::cpu_isa;
  const char* limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  for (const auto& [isa, name] : {std::pair{avx512_core_amx, "AMX"},
                                  {avx512_core_bf16, "AVX512-BF16"},
                                  {avx512_core_vnni, "AVX512-VNNI"},
                                  {avx512_core, "AVX512"},
                                  {avx2, "AVX2"},
                                  {avx, "AVX"}})
    if (has(isa)) return limit ? fmt::format("{} (ONEDNN_MAX_CPU_ISA={})", name, limit) : name;
  return "no AVX";
}

}  // namespace sg
