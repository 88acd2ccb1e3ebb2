#include "tasks/class_weights.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "core/text.h"
#include "io/file.h"
#include "io/json.h"

namespace sg::tasks {
namespace {

std::vector<double> balanced(const data::Dataset& training) {
  std::vector<double> counts(size_t(training.num_classes()), 0);
  for (int64_t i = 0; i < training.size(); ++i) ++counts[size_t(training.label(i))];
  const double even = double(training.size()) / double(counts.size());
  for (double& count : counts) count = count > 0 ? even / count : 1;
  return counts;
}

std::vector<double> by_name(const nlohmann::json& json, const std::string& file,
                            const data::ClassNames& names) {
  std::vector<double> weights;
  std::vector<std::string> keys;
  for (const std::string& name : names) {
    const std::string& key = keys.emplace_back(escape_name(name));
    if (!json.contains(key) || !json[key].is_number())
      fail(ExitCode::usage, "--class-weights: {}: no number for class '{}'", file, key);
    weights.push_back(json[key].get<double>());
  }
  for (const auto& item : json.items())
    if (std::ranges::find(keys, item.key()) == keys.end())
      fail(ExitCode::usage, "--class-weights: {}: '{}' is no class of the data", file, item.key());
  return weights;
}

std::vector<double> in_order(const nlohmann::json& json, const std::string& file) {
  std::vector<double> weights;
  for (const nlohmann::json& value : json) {
    if (!value.is_number())
      fail(ExitCode::usage, "--class-weights: {}: expected a number, found {}", file, value.dump());
    weights.push_back(value.get<double>());
  }
  return weights;
}

// Numbers with white space or commas between them.
std::vector<double> in_lines(std::string text, const std::string& file) {
  std::vector<double> weights;
  std::ranges::replace(text, ',', ' ');
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const auto weight = parse_number(word);
    if (!weight)
      fail(ExitCode::usage, "--class-weights: {}: expected a number, found '{}'", file, word);
    weights.push_back(*weight);
  }
  return weights;
}

std::vector<double> from_file(const std::string& file, const data::ClassNames& names) {
  std::error_code error;
  if (!std::filesystem::exists(file, error))
    fail(ExitCode::usage, "--class-weights: expected 'balanced' or a file of numbers, found '{}'",
         file);
  const std::string text = read_file(file, ExitCode::usage);
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos || (text[first] != '{' && text[first] != '['))
    return in_lines(text, file);
  const nlohmann::json json = parse_json(text, file, ExitCode::usage);
  return json.is_object() ? by_name(json, file, names) : in_order(json, file);
}

}  // namespace

std::vector<double> class_weights(const std::string& spec, const data::Dataset& training,
                                  int64_t classes) {
  if (spec.empty()) return {};
  std::vector<double> weights =
      spec == "balanced" ? balanced(training) : from_file(spec, training.class_names());
  if (int64_t(weights.size()) != training.num_classes())
    fail(ExitCode::usage, "--class-weights: {}: expected {} numbers, one a class, found {}", spec,
         training.num_classes(), weights.size());
  for (const double w : weights)
    if (!(w > 0 && std::isfinite(w)))
      fail(ExitCode::usage, "--class-weights: {}: expected numbers above 0, found {}", spec, w);
  weights.resize(size_t(classes), 1);
  return weights;
}

}  // namespace sg::tasks
