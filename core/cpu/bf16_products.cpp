#include "core/cpu/bf16_products.h"

#include <oneapi/dnnl/dnnl.hpp>

namespace sg {

bool has_bf16_products() {
  static const bool has = [] {
    // Each set of instructions is a bit, beside those of the sets that it includes.
    constexpr auto bits = [](dnnl::cpu_isa isa) { return unsigned(isa); };
    constexpr unsigned needed = bits(dnnl::cpu_isa::avx512_core_bf16);
    return (bits(dnnl::get_effective_cpu_isa()) & needed) == needed;
  }();
  return has;
}

}  // namespace sg
