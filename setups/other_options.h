// Options that only another task has.
#pragma once
#include <span>

#include "train/options.h"

namespace sg::setups {

struct OtherOption {
  const char* name;    // of the flag, without "--"
  const char* advice;  // what this task has in its place
};

// Throws ExitCode::usage, naming the flag and the advice, where one of the options is not as in
// `usual`: nothing would come of it.
void refuse_options(const train::Options& options, const train::Options& usual,
                    std::span<const OtherOption> others, const char* task);

}  // namespace sg::setups
