// Highway's instruction sets, one after the other.
#pragma once
#include <doctest/doctest.h>
#include <hwy/highway.h>

#include <string>

namespace sg::test {

// Runs `f` once for each instruction set that the build and the CPU have, then with all of them.
template <class F>
void for_each_target(F&& f) {
  const int64_t all = hwy::SupportedTargets() & HWY_TARGETS;
  for (int64_t left = all; left != 0; left &= left - 1) {
    const int64_t one = left & -left;
    hwy::SetSupportedTargetsForTest(one);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    INFO(std::string(hwy::TargetName(one)));
    f();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  f();
}

}  // namespace sg::test
