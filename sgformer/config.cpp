#include "sgformer/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "core/error.h"
#include "core/text.h"
#include "sgformer/ranking.h"

namespace sg::sgformer {
namespace {

StageConfig stage(int64_t dim, int heads, int depth, int s) {
  return {dim, heads, depth, published_scales(s), published_regions(s)};
}

Config published(const char* name, std::array<int, 4> depths, int64_t dim, int heads, double drop) {
  Config c;
  c.name = name;
  c.stages = {stage(dim, heads, depths[0], 8), stage(2 * dim, 2 * heads, depths[1], 4),
              stage(4 * dim, 4 * heads, depths[2], 2),
              StageConfig{8 * dim, 8 * heads, depths[3], {}, {}}};
  c.drop_path = drop;
  return c;
}

// Small images: the stem divides by 2 only, so 28 pixels give maps of 14, 7, 4 and 2 tokens a
// side, and merges are finer.
Config nano() {
  Config c;
  c.name = "sgformer_nano";
  c.stem_strides = {2, 1, 1};
  c.pos_embed_side = 14;
  c.image = 28;
  c.stages[0] = {24, 2, 2, published_scales(4), {{1, 4, 7}, {1, 2, 2}, {1, 4, 1}}};
  c.stages[1] = {48, 2, 2, published_scales(2), published_regions(2)};
  c.stages[2] = {96, 4, 2, published_scales(2), published_regions(2)};
  c.stages[3] = {192, 8, 1, {}, {}};
  return c;
}

std::vector<Config> all() {
  return {nano(), published("sgformer_s", {2, 4, 16, 1}, 64, 2, 0.1),
          published("sgformer_m", {2, 6, 28, 2}, 64, 2, 0.2),
          published("sgformer_b", {4, 6, 24, 2}, 96, 4, 0.4)};
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

// No width, depth, stride, count or rank of a configuration is larger; products of three fit.
constexpr int64_t kMaxValue = 1 << 16, kMaxClasses = 1 << 24;
bool in_range(int64_t v) { return v >= 1 && v <= kMaxValue; }

int64_t positive(std::string_view text, std::string_view option) {
  int64_t v = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (ec != std::errc() || end != text.data() + text.size() || !in_range(v))
    fail(ExitCode::usage, "{}: '{}' is not a whole number from 1 to {}", option, text, kMaxValue);
  return v;
}

// Throws where `regions` cannot share out a ranking; `where` names the stage.
void check_regions(const std::vector<RegionShare>& regions, const std::string& where) {
  for (const RegionShare& r : regions)
    if (!in_range(r.numerator) || !in_range(r.denominator) || !in_range(r.r))
      fail(ExitCode::usage, "{}: a region's share and ranks must be from 1 to {}; found {}/{}:{}",
           where, kMaxValue, r.numerator, r.denominator, r.r);
  const int64_t unit = ranking_unit(regions);
  if (unit == 0)
    fail(ExitCode::usage, "{}: no ranking below 2^31 tokens can be cut into these regions", where);
  int64_t sum = 0;  // of the shares of a unit, which are whole
  for (const RegionShare& r : regions) sum += r.numerator * unit / r.denominator;
  if (sum != unit)
    fail(ExitCode::usage, "{}: the shares of the regions must add to 1; found {}/{}", where,
         sum / std::gcd(sum, unit), unit / std::gcd(sum, unit));
}

// Calls set(stage, entry) for every stage that the text does not leave as it is.
template <class F>
void each_stage(Config& config, std::string_view option, std::string_view text, const F& set) {
  const auto entries = split(text, ';');
  if (entries.size() > config.stages.size())
    fail(ExitCode::usage, "{}: '{}' has {} stages, the model has {}", option, text, entries.size(),
         config.stages.size());
  for (size_t i = 0; i < entries.size(); ++i)
    if (entries[i] != "-") set(config.stages[i], entries[i]);
}

}  // namespace

std::vector<ScaleGroup> published_scales(int s) { return {{s, true}, {1, false}}; }

std::vector<RegionShare> published_regions(int s) {
  switch (s) {
    case 8:
      return {{1, 4, 196}, {1, 2, 56}, {1, 4, 28}};
    case 4:
      return {{1, 4, 49}, {1, 2, 14}, {1, 4, 7}};
    case 2:
      return {{1, 2, 2}, {1, 2, 1}};
  }
  fail(ExitCode::usage, "regions: no published cut for merge stride {}; expected 8, 4 or 2", s);
}

Config find_config(std::string_view name) {
  for (const Config& c : all())
    if (c.name == name) return c;
  fail(ExitCode::usage, "model '{}' is unknown{}; known: {}", name,
       did_you_mean(name, config_names()), fmt::join(config_names(), ", "));
}

double default_crop_pct(std::string_view name) { return name == "sgformer_nano" ? 1.0 : 0.9; }

std::vector<std::string> config_names() {
  std::vector<std::string> names;
  for (const Config& c : all()) names.push_back(c.name);
  return names;
}

void set_scales(Config& config, std::string_view text) {
  each_stage(config, "scales", text, [](StageConfig& stage, std::string_view entry) {
    stage.scales.clear();
    for (std::string_view item : split(entry, ',')) {
      const bool global = item.ends_with('g');
      if (global) item.remove_suffix(1);
      stage.scales.push_back({int(positive(item, "scales")), global});
    }
    std::stable_sort(stage.scales.begin(), stage.scales.end(),
                     [](const ScaleGroup& a, const ScaleGroup& b) { return a.scale > b.scale; });
  });
}

void set_regions(Config& config, std::string_view text) {
  each_stage(config, "regions", text, [](StageConfig& stage, std::string_view entry) {
    stage.regions.clear();
    for (const std::string_view item : split(entry, ',')) {
      const auto share_r = split(item, ':'), share = split(share_r[0], '/');
      if (share_r.size() != 2 || share.size() > 2)
        fail(ExitCode::usage, "regions: '{}' is not share:r, such as 1/4:196", item);
      stage.regions.push_back({positive(share[0], "regions"),
                               share.size() == 2 ? positive(share[1], "regions") : 1,
                               positive(share_r[1], "regions")});
    }
  });
}

Guidance parse_guidance(std::string_view text) {
  constexpr std::pair<std::string_view, Guidance> kNames[] = {{"hybrid", Guidance::hybrid},
                                                              {"local", Guidance::local},
                                                              {"global", Guidance::global},
                                                              {"uniform", Guidance::uniform}};
  for (const auto& [name, value] : kNames)
    if (name == text) return value;
  fail(ExitCode::usage, "guidance: '{}' is not one of hybrid, local, global, uniform{}", text,
       did_you_mean(text, {"hybrid", "local", "global", "uniform"}));
}

void validate(const Config& config) {
  const auto require = [&](bool ok, size_t stage, std::string_view what, auto found) {
    if (!ok)
      fail(ExitCode::usage, "{}: stage {}: {}; found {}", config.name, stage + 1, what, found);
  };
  if (config.classes < 1 || config.classes > kMaxClasses)
    fail(ExitCode::usage, "{}: expected from 1 to {} classes, found {}", config.name, kMaxClasses,
         config.classes);
  if (!(config.drop_path >= 0 && config.drop_path < 1))
    fail(ExitCode::usage, "{}: drop-path: expected a rate in [0, 1), found {}", config.name,
         config.drop_path);
  for (const int64_t v : {int64_t{config.stem_strides[0]}, int64_t{config.stem_strides[1]},
                          int64_t{config.stem_strides[2]}, config.pos_embed_side, config.image,
                          int64_t{config.window}, config.mlp_ratio})
    if (!in_range(v))
      fail(ExitCode::usage,
           "{}: stem strides, positional embedding, image, window and MLP ratio must be from 1 to "
           "{}; "
           "found {}",
           config.name, kMaxValue, v);
  for (size_t i = 0; i < config.stages.size(); ++i) {
    const StageConfig& s = config.stages[i];
    require(in_range(s.dim) && in_range(s.depth) && in_range(s.heads), i,
            fmt::format("width, heads and depth must be from 1 to {}", kMaxValue),
            fmt::format("{}, {}, {}", s.dim, s.heads, s.depth));
    require(s.dim % s.heads == 0, i, fmt::format("width {} must be a multiple of the heads", s.dim),
            s.heads);
    require(s.dim / s.heads <= 64, i, "a head must be at most 64 wide", s.dim / s.heads);
    if (s.scales.empty()) continue;
    require(s.depth % 2 == 0, i, "hybrid and self-guided blocks alternate, the depth must be even",
            s.depth);
    const int groups = int(s.scales.size());
    require(s.heads % groups == 0, i,
            fmt::format("the heads must be a multiple of the {} scales", groups), s.heads);
    require(s.heads % 2 == 0, i, "self-guided attention halves the heads, they must be even",
            s.heads);
    for (const ScaleGroup& g : s.scales)
      require(in_range(g.scale), i, fmt::format("a scale must be from 1 to {}", kMaxValue),
              g.scale);
    check_regions(s.regions, fmt::format("{}: stage {}", config.name, i + 1));
  }
  require(config.stages[0].dim % 4 == 0, 0, "the positional embedding needs a width divisible by 4",
          config.stages[0].dim);
}

}  // namespace sg::sgformer
