// The command lines of timm, DeiT, Swin and torchrun: what they call otherwise, and what they
// switch on that is always so here.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/cli.h"

namespace sg::tools {

// "--weight-decay" for "--wd": our name of a flag that others have under another one, if `app` has
// it; else "".
std::string our_name(const CLI::App& app, std::string_view flag);

// Accepts these of --amp --native-amp --channels-last --pin-mem --model-ema --opt --sched. Another
// value than what is always so is an error (ExitCode::usage).
void add_timm_switches(CLI::App& app, const std::vector<std::string_view>& flags);
// After parsing: a line on standard error for each that was given. Throws ExitCode::usage where
// --amp contradicts the dtype.
void explain_timm_switches(const CLI::App& app, const std::string& device,
                           const std::string& dtype);

}  // namespace sg::tools
