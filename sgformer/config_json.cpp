#include "sgformer/config_json.h"

#include "core/error.h"

namespace sg::sgformer {
namespace {

constexpr const char* kGuidance[] = {"hybrid", "local", "global", "uniform"};

template <class T>
void read(const nlohmann::json& j, T& value) {
  value = T(whole_number(j));
}

}  // namespace

int64_t whole_number(const nlohmann::json& j) {
  const int64_t found = j.is_number_integer() ? j.get<int64_t>() : -1;
  if (found < 0 || found > INT32_MAX)
    fail(ExitCode::checkpoint, "expected a whole number below 2^31, found {}", j.dump());
  return found;
}

nlohmann::json config_to_json(const Config& c) {
  nlohmann::json stages = nlohmann::json::array();
  for (const StageConfig& s : c.stages) {
    nlohmann::json scales = nlohmann::json::array(), regions = nlohmann::json::array();
    for (const ScaleGroup& g : s.scales) scales.push_back({g.scale, g.global});
    for (const RegionShare& r : s.regions) regions.push_back({r.numerator, r.denominator, r.r});
    stages.push_back({{"dim", s.dim},
                      {"heads", s.heads},
                      {"depth", s.depth},
                      {"scales", scales},
                      {"regions", regions}});
  }
  return {{"name", c.name},
          {"stages", stages},
          {"classes", c.classes},
          {"stem_strides", c.stem_strides},
          {"table", c.pos_embed_side},
          {"image", c.image},
          {"window", c.window},
          {"mlp_ratio", c.mlp_ratio},
          {"guidance", kGuidance[int(c.guidance)]},
          {"balance_significance", c.balance_significance},
          {"drop_path", c.drop_path},
          {"recompute", c.recompute}};
}

Config config_from_json(const nlohmann::json& j) {
  try {
    Config c;
    j.at("name").get_to(c.name);
    const auto& stages = j.at("stages");
    if (stages.size() != c.stages.size())
      fail(ExitCode::checkpoint, "expected {} stages, found {}", c.stages.size(), stages.size());
    for (size_t i = 0; i < c.stages.size(); ++i) {
      StageConfig& s = c.stages[i];
      read(stages[i].at("dim"), s.dim);
      read(stages[i].at("heads"), s.heads);
      read(stages[i].at("depth"), s.depth);
      for (const auto& g : stages[i].at("scales")) {
        read(g.at(0), s.scales.emplace_back().scale);
        g.at(1).get_to(s.scales.back().global);
      }
      for (const auto& r : stages[i].at("regions")) {
        RegionShare& share = s.regions.emplace_back();
        read(r.at(0), share.numerator), read(r.at(1), share.denominator), read(r.at(2), share.r);
      }
    }
    read(j.at("classes"), c.classes);
    for (size_t i = 0; i < c.stem_strides.size(); ++i)
      read(j.at("stem_strides").at(i), c.stem_strides[i]);
    read(j.at("table"), c.pos_embed_side);
    read(j.at("image"), c.image);
    read(j.at("window"), c.window);
    read(j.at("mlp_ratio"), c.mlp_ratio);
    c.guidance = parse_guidance(j.at("guidance").get<std::string>());
    j.at("balance_significance").get_to(c.balance_significance);
    j.at("drop_path").get_to(c.drop_path);
    j.at("recompute").get_to(c.recompute);
    validate(c);
    return c;
  } catch (const std::exception& e) {  // what JSON lacks, or what does not fit
    fail(ExitCode::checkpoint, "model configuration: {}", e.what());
  }
}

std::string config_differences(const Config& a, const Config& b) {
  const nlohmann::json x = config_to_json(a), y = config_to_json(b);
  std::string table;
  for (const auto& [key, value] : x.items())
    if (value != y.at(key))
      table += fmt::format("  {}: {} | {}\n", key, value.dump(), y[key].dump());
  return table;
}

}  // namespace sg::sgformer
