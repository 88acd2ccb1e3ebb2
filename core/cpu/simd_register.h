// Fills a slot with a function that Highway compiled once a target: the best one this CPU runs.
#pragma once
#include <hwy/highway.h>

#include "core/slot.h"

namespace sg {
inline void choose_simd_target() { hwy::GetChosenTarget().Update(hwy::SupportedTargets()); }
}  // namespace sg

// In namespace sg, under HWY_ONCE: SG_REGISTER_SIMD(kernels::layer_norm_fwd, forward);
#define SG_REGISTER_SIMD(slot, function)                                           \
  HWY_EXPORT(function);                                                            \
  const Register register_##function {                                             \
    slot, DeviceType::cpu, (choose_simd_target(), &HWY_DYNAMIC_DISPATCH(function)) \
  }
