#include "sgformer/parameter_groups.h"

#include <charconv>
#include <cmath>
#include <optional>

#include "core/error.h"

namespace sg::sgformer {
namespace {

struct Place {
  int stage;  // counted from 1
  int depth;
};

// Takes `word` and the number after it off the front of `name`: "block3.7" leaves ".7".
std::optional<int> take_number(std::string_view& name, std::string_view word) {
  if (!name.starts_with(word)) return {};
  int number = 0;
  const char* const end = name.data() + name.size();
  const auto [rest, ec] = std::from_chars(name.data() + word.size(), end, number);
  if (ec != std::errc()) return {};
  name = {rest, size_t(end - rest)};
  return number;
}

// Nothing for what is not of the backbone.
std::optional<Place> place_of(const Config& config, std::string_view name) {
  if (name == "pos_embed") return Place{1, 0};
  for (const std::string_view word : {"patch_embed", "block", "norm"}) {
    const int stage = take_number(name, word).value_or(0);
    if (stage < 1 || stage > int(config.stages.size())) continue;
    int before = 0;  // blocks of the stages before
    for (int i = 0; i + 1 < stage; ++i) before += config.stages[size_t(i)].depth;
    if (word == "patch_embed") return Place{stage, stage == 1 ? 0 : before + 1};
    if (word == "norm") return Place{stage, before + config.stages[size_t(stage - 1)].depth};
    if (const auto block = take_number(name, ".")) return Place{stage, before + 1 + *block};
  }
  return {};
}

}  // namespace

int parse_frozen_stages(std::string_view text) {
  if (text.empty()) return 0;
  if (text == "backbone") return 4;
  if (text.size() == 1 && text[0] >= '1' && text[0] <= '4') return text[0] - '0';
  fail(ExitCode::usage, "--freeze: expected backbone, or a number of stages from 1 to 4, found {}",
       text);
}

nn::GroupRule group_rule(const Config& config, const GroupSettings& settings, std::string prefix) {
  int layers = 1;
  for (const StageConfig& s : config.stages) layers += s.depth;
  return [config, settings, prefix, layers](const nn::NamedSlice& part) {
    nn::ParameterGroup group = nn::published_group(part);
    std::string_view name = part.name;
    if (!name.starts_with(prefix)) return group;
    name.remove_prefix(prefix.size());
    if (const auto place = place_of(config, name)) {
      if (place->stage <= settings.frozen_stages)
        return nn::ParameterGroup{.lr_scale = 0, .weight_decay_scale = 0, .frozen = true};
      group.lr_scale = std::pow(settings.layer_decay, layers - place->depth);
    }
    return group;
  };
}

}  // namespace sg::sgformer
