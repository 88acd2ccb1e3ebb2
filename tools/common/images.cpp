#include "tools/common/images.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include "core/error.h"
#include "core/text.h"
#include "data/dataset.h"
#include "data/png_write.h"
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

// The paths of a list: lines, or what lies between zero bytes, as find -print0 writes them. Empty
// ones are left out, and so are the mark at the begin and the carriage returns of Windows.
std::vector<std::string> lines_of(const std::string& text, const std::string& name) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  const std::string_view begin = std::string_view(text).substr(0, 4096);
  if (std::ranges::any_of(begin, [](char c) {
        return uint8_t(c) < 0x20 && c != '\0' && c != '\t' && c != '\n' && c != '\r';
      }))
    fail(
        ExitCode::data,
        "{}: expected paths of images, a line each, found binary data; an image itself is given by "
        "its path",
        name);
  const char between = text.find('\0') == text.npos ? '\n' : '\0';
  std::vector<std::string> lines;
  for (size_t at = text.starts_with(kMark) ? kMark.size() : 0; at < text.size();) {
    const size_t end = std::min(text.find(between, at), text.size());
    std::string line = text.substr(at, end - at);
    if (between == '\n' && line.ends_with('\r')) line.pop_back();
    if (!line.empty()) lines.push_back(std::move(line));
    at = end + 1;
  }
  if (lines.empty())
    fail(ExitCode::data, "{}: expected paths of images, a line each, found none", name);
  return lines;
}

void check_ending(const fs::path& path) {
  const fs::path ending = path.extension();
  if (ending != ".csv" && ending != ".json" && ending != ".jsonl")
    fail(ExitCode::usage, "--results-file: expected a name in .csv, .json or .jsonl, found '{}'",
         path.string());
}

// Whether a file that begins so is one of ResultWriter's; keys of JSON are in alphabetical order.
bool is_own_results(std::string_view begin) {
  for (const std::string_view own :
       {kGuessColumns, kShareColumns, kObjectColumns, std::string_view("[\n  {\n    \"bbox\": ["),
        std::string_view("[\n  {\n    \"category_id\": "), std::string_view("{\"bbox\":["),
        std::string_view("[\n  {\n    \"classes\": ["), std::string_view("[\n  {\n    \"error\": "),
        std::string_view("{\"classes\":["), std::string_view("{\"error\":")})
    if (begin.starts_with(own)) return true;
  return begin.empty();  // ended before its first row
}

// A row a class, or one that says why there is none.
std::string csv_rows(const ImageResult& r) {
  const std::string begin = csv_field(escape_name(r.image)) + "," + csv_field(r.label);
  if (!r.error.empty())
    return fmt::format("{},,,,,{}\n", begin, csv_field(escape_odd_bytes(r.error)));
  std::string rows;
  for (size_t i = 0; i < r.classes.size(); ++i)
    rows += fmt::format("{},{},{},{},{},\n", begin, i + 1, r.classes[i].index,
                        csv_field(r.classes[i].name), r.classes[i].probability);
  return rows;
}

}  // namespace

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::vector<std::string> find_images(const std::vector<std::string>& arguments) {
  std::vector<std::string> images;
  const auto add = [&](std::vector<std::string> more) {
    images.insert(images.end(), std::make_move_iterator(more.begin()),
                  std::make_move_iterator(more.end()));
  };
  const auto add_path = [&](const std::string& path) {
    if (std::error_code error; fs::is_directory(path, error))
      add(data::images_below(path));
    else
      images.push_back(path);
  };
  for (const std::string& argument : arguments) {
    std::vector<std::string> paths{argument};
    if (argument == "-")
      paths = lines_of(standard_input(), "standard input");
    else if (std::error_code error; argument.starts_with('@') && !fs::exists(argument, error))
      paths = lines_of(read_file(argument.substr(1), ExitCode::data), argument.substr(1));
    std::ranges::for_each(paths, add_path);
  }
  return images;
}

std::vector<Guess> best_guesses(std::span<const float> logits, const data::ClassNames& names,
                                const data::ClassTitles& titles, int64_t count) {
  std::vector<Guess> best;
  for (const auto& [i, probability] :
       infer::top_classes({.probabilities = infer::softmax(logits)}, count)) {
    const std::string name = data::class_name(names, i);
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

void write_png(const fs::path& path, const data::Image& image) {
  const auto png = data::encode_png(image);
  AtomicFile file(path);
  file.write(png.data(), png.size());
  file.commit_unsynced();
}

void check_results_file(const fs::path& path, const InputFiles& read) {
  check_ending(path);
  check_output(path, read, is_own_results);
}

ResultWriter::ResultWriter(const fs::path& path, std::string_view columns)
    : name_(path.string()), ending_(path.extension().string()) {
  check_ending(path);
  owned_.reset(std::fopen(path.c_str(), "we"));
  out_ = owned_.get();
  if (!out_) failed();
  write(ending_ == ".csv" ? columns : "");
}

ResultWriter::ResultWriter(std::FILE* out, std::string ending, std::string_view columns)
    : name_("standard output"), ending_(std::move(ending)), out_(out) {
  write(ending_ == ".csv" ? columns : "");
}

void ResultWriter::add(const ImageResult& result) { add(to_json(result), csv_rows(result)); }

void ResultWriter::add(const nlohmann::json& object, const std::string& rows) {
  if (ending_ == ".csv") {
    write(rows);
  } else if (ending_ == ".jsonl") {
    write(object.dump() + "\n");
  } else {
    std::string text = object.dump(2);
    for (size_t at = 0; (at = text.find('\n', at)) != text.npos; at += 3)
      text.replace(at, 1, "\n  ");
    write((added_ ? ",\n  " : "[\n  ") + text);
  }
  ++added_;
}

void ResultWriter::flush() {
  if (std::fflush(out_) != 0) failed();
}

void ResultWriter::finish() {
  if (ending_ == ".json") write(added_ ? "\n]\n" : "[]\n");
  flush();
}

void ResultWriter::write(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), out_) != text.size()) failed();
}

void ResultWriter::failed() const {
  fail(ExitCode::failure, "{}: cannot be written: {}", name_, std::strerror(errno));
}

}  // namespace sg::tools
