#include "sgformer/weights.h"

#include <algorithm>
#include <map>

#include "io/checkpoint.h"
#include "io/file_kind.h"
#include "io/pth.h"

namespace sg::sgformer {
namespace fs = std::filesystem;
namespace {

std::string summarise(const Weights& weights, bool has_averaged, bool has_others,
                      const fs::path& path) {
  const std::string_view kind = weights.ema    ? "the averaged (EMA) weights"
                                : has_averaged ? "the weights, not the averaged (EMA) ones"
                                               : "the weights (none are averaged)";
  return printable(fmt::format(
      "{}: {}, {} tensors{}{}", path.string(), kind, weights.tensors.size(),
      weights.prefix.empty() ? "" : fmt::format(", '{}' taken off their names", weights.prefix),
      weights.ema && has_others ? "; --no-ema takes the others" : ""));
}

template <class File>
Weights read(const File& file, std::optional<bool> ema) {
  const std::vector<WeightCopy> copies = weight_copies(file.names(), file.path().string());
  const WeightCopy& copy = choose_copy(copies, ema, file.path().string());
  Weights weights{.ema = copy.ema, .prefix = copy.prefix};
  for (const auto& [name, in_file] : copy.names)
    weights.tensors.emplace_back(name, file.tensor(in_file));
  const auto averaged = size_t(std::ranges::count(copies, true, &WeightCopy::ema));
  weights.summary = summarise(weights, averaged > 0, averaged < copies.size(), file.path());
  return weights;
}

// Its names are known, and its tensors verified.
Weights read_checkpoint(const fs::path& path, std::optional<bool> ema) {
  const bool averaged = std::ranges::any_of(
      Safetensors::open(path).names(), [](const auto& name) { return name.starts_with(kEma); });
  if (ema == true && !averaged)
    fail(ExitCode::checkpoint,
         "{}: this run kept no averaged (EMA) weights (--model-ema-decay); leave out --ema",
         path.string());
  Weights weights{.ema = ema.value_or(averaged)};
  weights.tensors = load_part(path, weights.ema ? kEma : "");
  weights.summary = summarise(weights, averaged, true, path);
  return weights;
}

}  // namespace

bool Weights::holds_any(std::string_view prefix) const {
  return std::ranges::any_of(tensors, [&](const auto& t) { return t.first.starts_with(prefix); });
}

Weights load_weights(const fs::path& path, std::optional<bool> ema) {
  if (kind_of(path) != FileKind::safetensors) {
    const Pth file = Pth::open(path);
    Weights weights = read(file, ema);
    weights.classes = file.texts({"meta", "CLASSES"});
    if (weights.classes.empty()) weights.classes = file.texts({"meta", "dataset_meta", "classes"});
    return weights;
  }
  return is_checkpoint(path) ? read_checkpoint(path, ema) : read(Safetensors::open(path), ema);
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
