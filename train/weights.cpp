#include "train/weights.h"

#include <algorithm>
#include <map>

#include "train/checkpoint.h"

namespace sg::train {
namespace {

// The tensors whose names start with `prefix`, without it.
std::vector<NamedTensor> under(const std::vector<NamedTensor>& tensors, std::string_view prefix) {
  std::vector<NamedTensor> result;
  for (const auto& [name, tensor] : tensors)
    if (name.starts_with(prefix)) result.emplace_back(name.substr(prefix.size()), tensor);
  return result;
}

}  // namespace

std::vector<NamedTensor> unwrap(std::vector<NamedTensor> tensors, bool ema,
                                const std::filesystem::path& path) {
  const auto take = [&](std::initializer_list<std::string_view> prefixes) {
    for (std::string_view prefix : prefixes)
      if (auto found = under(tensors, prefix); !found.empty()) {
        tensors = std::move(found);
        return true;
      }
    return false;
  };
  if (!ema)
    take({"state_dict.", "model."});
  else if (!take({"state_dict_ema.", "model_ema.", "ema."}))
    fail(ExitCode::checkpoint, "{}: holds no averaged (EMA) weights; load it without them",
         path.string());
  // DistributedDataParallel puts it before every name.
  if (std::ranges::all_of(tensors, [](const auto& t) { return t.first.starts_with("module."); }))
    take({"module."});
  return tensors;
}

std::vector<NamedTensor> load_weights(const std::filesystem::path& path, bool ema) {
  const Safetensors file = Safetensors::open(path);
  if (is_checkpoint(file)) {
    std::vector<NamedTensor> weights = load_part(path, ema ? kEma : "");
    return weights.empty() ? unwrap({}, ema, path) : weights;
  }
  std::vector<NamedTensor> tensors;
  for (const std::string& name : file.names()) tensors.emplace_back(name, file.tensor(name));
  return unwrap(std::move(tensors), ema, path);
}

void save_weights(const std::filesystem::path& path, const std::vector<NamedTensor>& weights) {
  write_safetensors(path, weights, {{"format", "pt"}});
}

Differences differences(const std::vector<NamedTensor>& found,
                        const std::vector<std::pair<std::string, Shape>>& expected) {
  std::map<std::string, Shape> left;
  for (const auto& [name, tensor] : found) left.emplace(name, tensor.shape());
  Differences result;
  for (const auto& [name, shape] : expected) {
    const auto it = left.find(name);
    if (it == left.end()) {
      result.missing.push_back(name);
      continue;
    }
    if (it->second != shape) result.shapes.push_back({name, shape, it->second});
    left.erase(it);
  }
  for (const auto& [name, shape] : left) result.unexpected.push_back(name);
  return result;
}

std::string Differences::table(size_t rows_of_a_kind) const {
  std::string text;
  const auto add = [&](std::string_view kind, const auto& items, auto&& row) {
    if (!items.empty()) text += fmt::format("{} ({}):\n", kind, items.size());
    for (size_t i = 0; i < std::min(items.size(), rows_of_a_kind); ++i)
      text += "  " + row(items[i]) + "\n";
    if (items.size() > rows_of_a_kind)
      text += fmt::format("  ... and {} more\n", items.size() - rows_of_a_kind);
  };
  const auto name = [](const std::string& s) { return s; };
  add("missing from the file", missing, name);
  add("not in the model", unexpected, name);
  add("of another shape", shapes, [](const Mismatch& m) {
    return fmt::format("{:<44} model {:<22} file {}", m.name, m.expected.str(), m.found.str());
  });
  return text;
}

}  // namespace sg::train
