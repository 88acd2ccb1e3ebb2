#include "tools/common/images.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <span>

#include "core/error.h"
#include "core/text.h"
#include "data/dataset.h"
#include "infer/predictor.h"
#include "io/file.h"

namespace sg::tools {
namespace fs = std::filesystem;
namespace {

std::string standard_input() {
  std::string all;
  char buffer[1 << 16];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) all.append(buffer, n);
  return all;
}

// Lines; empty ones are left out, and so is the carriage return of Windows.
std::vector<std::string> lines_of(const std::string& text, const std::string& name) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) lines.push_back(std::move(line));
    begin = end + 1;
  }
  if (lines.empty())
    fail(ExitCode::data, "{}: expected paths of images, a line each, found none", name);
  return lines;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

constexpr std::string_view kCsvHeader = "image,label,rank,index,name,probability,error\n";

void check_ending(const fs::path& path) {
  const fs::path ending = path.extension();
  if (ending != ".csv" && ending != ".json" && ending != ".jsonl")
    fail(ExitCode::usage, "--results-file: expected a name in .csv, .json or .jsonl, found '{}'",
         path.string());
}

// Whether a file that begins so is one of write_results(); keys of JSON are in alphabetical order.
bool is_own_results(std::string_view begin) {
  for (const std::string_view own :
       {kCsvHeader, std::string_view("[\n  {\n    \"classes\": ["),
        std::string_view("[\n  {\n    \"error\": "), std::string_view("{\"classes\":["),
        std::string_view("{\"error\":")})
    if (begin.starts_with(own)) return true;
  return false;
}

}  // namespace

std::vector<std::string> find_images(const std::vector<std::string>& arguments) {
  std::vector<std::string> images;
  const auto add = [&](std::vector<std::string> more) {
    images.insert(images.end(), std::make_move_iterator(more.begin()),
                  std::make_move_iterator(more.end()));
  };
  for (const std::string& argument : arguments) {
    if (argument == "-")
      add(lines_of(standard_input(), "standard input"));
    else if (argument.starts_with('@'))
      add(lines_of(read_file(argument.substr(1), ExitCode::data), argument.substr(1)));
    else if (std::error_code error; fs::is_directory(argument, error))
      add(data::images_below(argument));
    else
      images.push_back(argument);
  }
  return images;
}

std::vector<Guess> best_guesses(std::span<const float> logits, const data::ClassNames& names,
                                const data::ClassTitles& titles, int64_t count) {
  std::vector<Guess> best;
  for (const auto& [i, probability] :
       infer::top_classes({.probabilities = infer::softmax(logits)}, count)) {
    const bool named = size_t(i) < names.size();
    const std::string name = named ? names[size_t(i)] : fmt::format("class {}", i);
    const auto title = titles.find(name);
    best.push_back({i, name, title == titles.end() ? "" : title->second, probability});
  }
  return best;
}

nlohmann::json to_json(const ImageResult& result) {
  const std::string image = escape_name(result.image);
  if (!result.error.empty()) return {{"image", image}, {"error", escape_odd_bytes(result.error)}};
  nlohmann::json j{{"image", image}, {"classes", nlohmann::json::array()}};
  if (!result.label.empty()) j["label"] = result.label;
  for (const Guess& g : result.classes) {
    j["classes"].push_back({{"index", g.index}, {"name", g.name}, {"probability", g.probability}});
    if (!g.title.empty()) j["classes"].back()["title"] = g.title;
  }
  return j;
}

std::string results_csv(const std::vector<ImageResult>& results) {
  std::string csv(kCsvHeader);
  for (const ImageResult& r : results) {
    const std::string begin = csv_field(escape_name(r.image)) + "," + csv_field(r.label);
    if (!r.error.empty())
      csv += fmt::format("{},,,,,{}\n", begin, csv_field(escape_odd_bytes(r.error)));
    for (size_t i = 0; i < r.classes.size(); ++i)
      csv += fmt::format("{},{},{},{},{},\n", begin, i + 1, r.classes[i].index,
                         csv_field(r.classes[i].name), r.classes[i].probability);
  }
  return csv;
}

void check_results_file(const fs::path& path, const InputFiles& read) {
  check_ending(path);
  check_output(path, read, is_own_results);
}

void write_results(const fs::path& path, const std::vector<ImageResult>& results) {
  check_ending(path);
  if (path.extension() == ".csv") return write_file(path, results_csv(results));
  std::string lines;
  nlohmann::json array = nlohmann::json::array();
  for (const ImageResult& r : results) {
    if (path.extension() == ".jsonl")
      lines += to_json(r).dump() + "\n";
    else
      array.push_back(to_json(r));
  }
  write_file(path, path.extension() == ".jsonl" ? lines : array.dump(2) + "\n");
}

fs::path find_weights(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return path;
  for (const fs::path& folder : {fs::path(path) / "checkpoints", fs::path(path)})
    for (const char* name : {"best.safetensors", "last.safetensors"})
      if (fs::is_regular_file(folder / name, error)) {
        fmt::print(stderr, "{}: taking {}\n", path, (folder / name).string());
        return folder / name;
      }
  fail(ExitCode::checkpoint,
       "{}: expected a file of weights, or the folder of a run with checkpoints/best.safetensors",
       path);
}

}  // namespace sg::tools
