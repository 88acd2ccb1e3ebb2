#include "sgformer/weights.h"

#include <algorithm>
#include <map>
#include <span>

#include "io/checkpoint.h"
#include "io/pth.h"

namespace sg::sgformer {
namespace fs = std::filesystem;
namespace {

// Where each weight of a file lies: its official name and the one it has in the file.
using Names = std::vector<std::pair<std::string, std::string>>;

// Cuts the prefix off those names that have it, and drops the others.
Names under(const Names& names, std::string_view prefix) {
  Names result;
  for (const auto& [name, in_file] : names)
    if (name.starts_with(prefix)) result.emplace_back(name.substr(prefix.size()), in_file);
  return result;
}

constexpr std::string_view kEmaPrefixes[] = {"state_dict_ema.", "model_ema.", kEma};
constexpr std::string_view kPrefixes[] = {"state_dict.", "model."};

bool is_pth(const fs::path& path) {
  const fs::path extension = path.extension();
  return Pth::recognises(path) || extension == ".pth" || extension == ".pt" || extension == ".tar";
}

Names unwrap(const std::vector<std::string>& in_file, bool ema, const std::filesystem::path& path) {
  Names names;
  for (const std::string& name : in_file) names.emplace_back(name, name);
  const auto take = [&](std::span<const std::string_view> prefixes) {
    for (std::string_view prefix : prefixes)
      if (Names found = under(names, prefix); !found.empty()) {
        names = std::move(found);
        return true;
      }
    return false;
  };
  if (!ema)
    take(kPrefixes);
  else if (!take(kEmaPrefixes))
    fail(ExitCode::checkpoint, "{}: holds no averaged (EMA) weights; load it without them",
         path.string());
  // DistributedDataParallel puts it before every name.
  const bool parallel =
      std::ranges::all_of(names, [](const auto& n) { return n.first.starts_with("module."); });
  return parallel ? under(names, "module.") : names;
}

template <class File>
std::vector<NamedTensor> read(const File& file, bool ema) {
  std::vector<NamedTensor> result;
  for (const auto& [name, in_file] : unwrap(file.names(), ema, file.path()))
    result.emplace_back(name, file.tensor(in_file));
  return result;
}

}  // namespace

std::vector<NamedTensor> load_weights(const std::filesystem::path& path, bool ema) {
  if (is_pth(path)) return read(Pth::open(path), ema);
  const Safetensors file = Safetensors::open(path);
  if (!is_checkpoint(file)) return read(file, ema);
  std::vector<NamedTensor> weights = load_part(path, ema ? kEma : "");
  if (weights.empty()) unwrap({}, ema, path);  // says that there is no EMA
  return weights;
}

bool has_ema(const fs::path& path) {
  const auto names = is_pth(path) ? Pth::open(path).names() : Safetensors::open(path).names();
  return std::ranges::any_of(names, [](const std::string& name) {
    return std::ranges::any_of(kEmaPrefixes, [&](auto prefix) { return name.starts_with(prefix); });
  });
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

}  // namespace sg::sgformer
