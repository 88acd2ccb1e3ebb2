// What an SG-Former is made of: the published models and every option of the paper.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sg::sgformer {

// Heads that share keys. Keys lie `scale` tokens apart; attention runs inside windows of
// window x window keys unless `global`.
struct ScaleGroup {
  int scale = 1;
  bool global = false;
};

// A share (numerator / denominator) of the ranking, cut into chunks of r ranks.
struct RegionShare {
  int64_t numerator = 1, denominator = 1, r = 1;
};

// Which significance map guides the self-guided blocks (paper, Table 7).
enum class Guidance {
  hybrid,  // global and local maps added
  local,   // the map of the groups of scale 1 alone
  global,  // the maps of the coarser groups alone
  uniform  // all tokens equally significant: they rank by position
};

// Stages with `scales` alternate hybrid and self-guided blocks; a stage without has full attention.
struct StageConfig {
  int64_t dim = 64;
  int heads = 2;
  int depth = 2;
  std::vector<ScaleGroup> scales;    // heads are shared out evenly, coarsest scale first
  std::vector<RegionShare> regions;  // from the least significant tokens to the most
};

struct Config {
  std::string name;
  std::array<StageConfig, 4> stages;
  int64_t classes = 1000;
  std::array<int, 3> stem_strides{2, 1, 2};
  int64_t pos_embed_side =
      56;  // side of the positional embedding: the stage-1 map at the native image size
  int64_t image = 224;  // native image size
  int window = 7;
  int64_t mlp_ratio = 4;
  Guidance guidance = Guidance::hybrid;
  bool balance_significance = false;  // weigh a global map by (its keys / 49)
  double drop_path = 0;               // rate of the last block; the first has 0
  bool recompute = false;             // keep block inputs only, compute the rest again in backward
};

// sgformer_s, sgformer_m, sgformer_b as published, with the drop-path rate of the recipe, and
// sgformer_nano for images of 28 to 64 pixels. Throws ExitCode::usage naming the nearest.
Config find_config(std::string_view name);
std::vector<std::string> config_names();
// The share of an image's shorter side that evaluation sees: 0.9, as published. For sgformer_nano
// 1: small images are about as large as the network wants them.
double default_crop_pct(std::string_view name);

// The published scales {s, global} + {1} and regions of a stage that merges s x s tokens.
std::vector<ScaleGroup> published_scales(int s);
std::vector<RegionShare> published_regions(int s);  // s = 8, 4, 2

// Options as text, one entry a stage separated by ';' ("-" keeps a stage as it is).
//   scales  "8g,1;4g,1;2g,1"                        g: global
//   regions "1/4:196,1/2:56,1/4:28;-;1/2:2,1/2:1"   share:r
void set_scales(Config& config, std::string_view text);
void set_regions(Config& config, std::string_view text);
Guidance parse_guidance(std::string_view text);

// Throws ExitCode::usage when heads, widths, depths, shares or strides do not fit together.
void validate(const Config& config);

}  // namespace sg::sgformer
