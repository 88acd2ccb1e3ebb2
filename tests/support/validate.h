// A training run's options, checked as sgtrain checks them before it opens anything.
#pragma once
#include "setups/setups.h"

namespace sg::test {

inline void validate(const train::Options& options) {
  train::validate(options);
  setups::make_setup(options.task)->validate(options);
}

}  // namespace sg::test
