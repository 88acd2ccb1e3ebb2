// Which tensors of a file are weights of the network, a classifier, segmentor or detector. Other
// programs put the official names into dictionaries and behind prefixes
// ("state_dict.module._orig_mod.head.bias"), and a file may hold several copies: the weights, their
// moving average, moments of an optimizer.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sg::sgformer {

struct WeightCopy {
  std::string prefix;  // what comes before the official names; "" where nothing does
  bool ema = false;    // averaged weights
  std::vector<std::pair<std::string, std::string>> names;  // official, in the file
};

// A prefix is one because official names follow it, whatever it is: of each tensor, the part before
// an official name. Those that most official names follow are copies. Throws
// ExitCode::checkpoint where there are too many to be true, or a copy has one name twice.
std::vector<WeightCopy> weight_copies(std::vector<std::string> in_file, std::string_view file);

// The averaged copy or the other; left out: averaged where there is one. Of several, that behind
// names which frameworks use (`state_dict` before `model`). Throws ExitCode::checkpoint where there
// is none, or where nothing says which; the message starts with `file`.
const WeightCopy& choose_copy(const std::vector<WeightCopy>& copies, std::optional<bool> ema,
                              std::string_view file);

// "'model_ema.module.'" for messages; "bare names" for no prefix.
std::string describe_prefix(std::string_view prefix);

// What the names of a segmentor's head begin with, and of a detector's region proposal network.
inline constexpr std::string_view kDecodeHead = "decode_head.";
inline constexpr std::string_view kRpnHead = "rpn_head.";

// Whether any published model has a parameter, or running statistics, of this name.
bool is_official_name(std::string_view name);

}  // namespace sg::sgformer
