#include "sgformer/config_json.h"

#include "core/error.h"

namespace sg::sgformer {
namespace {

constexpr const char* kGuidance[] = {"hybrid", "local", "global", "uniform"};

}  // namespace

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
          {"table", c.table},
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
      fail(ExitCode::checkpoint, "model configuration: expected {} stages, found {}",
           c.stages.size(), stages.size());
    for (size_t i = 0; i < c.stages.size(); ++i) {
      StageConfig& s = c.stages[i];
      stages[i].at("dim").get_to(s.dim);
      stages[i].at("heads").get_to(s.heads);
      stages[i].at("depth").get_to(s.depth);
      for (const auto& g : stages[i].at("scales"))
        s.scales.push_back({g.at(0).get<int>(), g.at(1).get<bool>()});
      for (const auto& r : stages[i].at("regions"))
        s.regions.push_back(
            {r.at(0).get<int64_t>(), r.at(1).get<int64_t>(), r.at(2).get<int64_t>()});
    }
    j.at("classes").get_to(c.classes);
    j.at("stem_strides").get_to(c.stem_strides);
    j.at("table").get_to(c.table);
    j.at("image").get_to(c.image);
    j.at("window").get_to(c.window);
    j.at("mlp_ratio").get_to(c.mlp_ratio);
    c.guidance = parse_guidance(j.at("guidance").get<std::string>());
    j.at("balance_significance").get_to(c.balance_significance);
    j.at("drop_path").get_to(c.drop_path);
    j.at("recompute").get_to(c.recompute);
    return c;
  } catch (const nlohmann::json::exception& e) {
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
