// The command lines and files of timm, DeiT, Swin and torchrun: what they call otherwise, what they
// switch on that is always so here, and what is not here (docs/timm.md).
#pragma once
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/cli.h"

namespace sg::tools {

// "--weight-decay" for "--wd": our name of a flag that others have under another one, if `app` has
// it; else "".
std::string our_name(const CLI::App& app, std::string_view flag);

// A flag of torchrun itself, which stands before the name of the program that it starts.
bool is_flag_of_torchrun(std::string_view flag);

// A flag of timm that is no option of ours: it changes nothing, or is refused.
struct TimmFlag {
  enum class Takes { nothing, value, value_or_nothing, values };
  static constexpr const char *kAny = "*", *kNone = "";
  static constexpr const char* kLocalRank = "LOCAL_RANK";  // what that variable says, else 0
  static constexpr const char* kAmp = "--dtype bf16";      // means that

  const char* flags;  // "--decay-rate,--dr"
  Takes takes;
  // The values that change nothing: "native|apex", kAny, kNone, kLocalRank, kAmp.
  const char* accepted;
  const char* usual;    // timm's default, as JSON, which its files hold: passed over in silence
  const char* meaning;  // why it changes nothing, or what to use instead
};
std::span<const TimmFlag> timm_flags();

// Such a flag, and the value that it was given.
struct GivenTimmFlag {
  const TimmFlag* flag;
  std::string value;
  std::string where{};  // for messages: "args.yaml: ", or nothing of the command line
};

// Adds those whose first name is in `only`; all where it is empty. Not listed by --help.
void add_timm_flags(CLI::App& app, const std::vector<std::string_view>& only = {});
// Takes the keys of such flags out of a configuration, and returns those that are not as timm has
// them by default. In a whole args.yaml of timm the keys that mean something else there become
// ours.
std::vector<GivenTimmFlag> take_timm_keys(nlohmann::json& config, std::string_view file);
// After parsing: a line on standard error for each that was given, by the command line or else by
// the file; of the processes of a run the first says it. Throws ExitCode::usage where one asks for
// what is not here, and where --amp contradicts the dtype, which on a CPU that multiplies bf16, or
// with --amp-dtype bfloat16, it makes bf16.
void explain_timm_flags(const CLI::App& app, const std::vector<GivenTimmFlag>& of_file,
                        const std::string& device, std::string& dtype);

}  // namespace sg::tools
