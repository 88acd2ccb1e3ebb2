#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <span>

#include "core/text.h"
#include "data/lines.h"
#include "data/segmentation_dataset.h"
#include "io/file.h"

namespace sg::data {
namespace {

struct Line {
  std::optional<int64_t> number;
  std::string name;
  std::optional<Rgb> color;
};

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!(text = trimmed(text)).empty()) {
    words.push_back(text.substr(0, text.find_first_of(" \t")));
    text.remove_prefix(words.back().size());
  }
  return words;
}

// "#rrggbb"
std::optional<Rgb> of_hexadecimal(std::string_view word) {
  const auto is_digit = [](unsigned char c) { return std::isxdigit(c) != 0; };
  if (word.size() != 7 || word[0] != '#' || !std::ranges::all_of(word.substr(1), is_digit))
    return {};
  const auto byte = [&](size_t at) {
    return uint8_t(std::stoi(std::string(word.substr(at, 2)), nullptr, 16));
  };
  return Rgb{byte(1), byte(3), byte(5)};
}

// Three numbers of 0 to 255.
std::optional<Rgb> of_numbers(std::span<const std::string_view> words) {
  if (words.size() < 3) return {};
  Rgb color;
  for (size_t c = 0; c < 3; ++c) {
    const auto value = parse_integer(words[c]);
    if (!value || *value < 0 || *value > 255) return {};
    color[c] = uint8_t(*value);
  }
  return color;
}

std::optional<Rgb> color_of(std::span<const std::string_view> words) {
  if (words.empty()) return {};
  const auto color = of_hexadecimal(words[0]);
  return color ? color : of_numbers(words);
}

// Takes a colour at the end of a name away from it.
std::optional<Rgb> take_color(std::string_view& name) {
  const std::vector<std::string_view> words = words_of(name);
  for (const size_t count : {1, 3})
    if (words.size() > count)
      if (const auto found = color_of(std::span(words).last(count))) {
        name = trimmed(name.substr(0, size_t(words[words.size() - count].data() - name.data())));
        return found;
      }
  return {};
}

// Fields of ADE20K's objectInfo150: Idx, Ratio, Train, Val, Stuff, Name. Of several names the
// first.
Line of_object_info(std::string_view line, char separator) {
  constexpr int kBeforeName = 5;
  const std::optional<int64_t> number =
      parse_integer(trimmed(line.substr(0, line.find(separator))));
  for (int field = 0; field < kBeforeName; ++field) {
    const size_t end = line.find(separator);
    if (end == line.npos) return {};
    line.remove_prefix(end + 1);
  }
  if (line.starts_with('"')) line.remove_prefix(1);
  return {number, std::string(trimmed(line.substr(0, line.find_first_of(";,\"\t")))), {}};
}

Line of_class_list(std::string_view line) {
  const auto column = [&] {
    const std::string_view text = line.substr(0, line.find('\t'));
    line.remove_prefix(std::min(text.size() + 1, line.size()));
    return trimmed(text);
  };
  const bool has_columns = line.find('\t') != line.npos;
  std::string_view name = column();
  const std::optional<int64_t> number = has_columns ? parse_integer(name) : std::nullopt;
  if (number) name = column();
  std::optional<Rgb> color = color_of(words_of(line));
  if (!color) color = take_color(name);
  return {number, std::string(name), color};
}

}  // namespace

std::vector<Rgb> complete_palette(std::vector<Rgb> given, int64_t classes) {
  std::vector<Rgb> palette = class_palette(classes);
  given.resize(std::min(given.size(), palette.size()));
  std::ranges::copy(given, palette.begin());
  return palette;
}

SegmentationClasses read_segmentation_classes(const std::string& path, bool reduce_zero_label) {
  const std::string file = read_file(path, ExitCode::data);
  std::string_view text = without_mark(file);
  if (text.starts_with('{') || text.starts_with('[')) {
    ClassNames names = read_class_map(path);
    const auto count = int64_t(names.size());
    return {std::move(names), class_palette(count)};
  }
  const std::string_view heading = text.substr(0, text.find('\n'));
  const bool is_object_info = heading.starts_with("Idx");
  const char separator = heading.find('\t') != heading.npos ? '\t' : ',';
  std::map<int64_t, Line> by_number;
  std::vector<Line> entries;
  size_t with_color = 0, without_color = 0;  // the first line of each kind
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#' || (is_object_info && number == 1)) continue;
    Line entry = is_object_info ? of_object_info(line, separator) : of_class_list(line);
    const bool mixed = entry.number ? !entries.empty() : !by_number.empty();
    if (entry.name.empty() || mixed || (is_object_info && !entry.number))
      fail(ExitCode::data,
           "{}: line {}: expected a number, a tab and the name of a class, or names alone, found "
           "'{}'",
           path, number, escape_name(line));
    if (size_t& first = entry.color ? with_color : without_color; first == 0) first = number;
    if (with_color && without_color)
      fail(ExitCode::data,
           "{}: line {} has a colour behind the name, line {} has none: expected one of every "
           "class, three numbers of 0 to 255 or #rrggbb, or none at all",
           path, with_color, without_color);
    if (!entry.number) {
      entries.push_back(std::move(entry));
    } else if (const int64_t value = *entry.number;
               !by_number.emplace(value, std::move(entry)).second) {
      fail(ExitCode::data, "{}: line {}: a second class of number {}", path, number, value);
    }
  }
  if (reduce_zero_label) by_number.erase(0);
  const int64_t first = reduce_zero_label ? 1 : 0;
  if (!by_number.empty() && by_number.begin()->first == 1 && !reduce_zero_label)
    fail(ExitCode::data,
         "{}: its classes are numbered from 1; --reduce-zero-label makes 1 the first class, and 0 "
         "pixels without one; where 0 is a class, add its line",
         path);
  for (auto& [number, entry] : by_number) {
    if (number != first + int64_t(entries.size()))
      fail(ExitCode::data, "{}: expected a class of number {}, found the next to be {} ('{}')",
           path, first + int64_t(entries.size()), number, escape_name(entry.name));
    entries.push_back(std::move(entry));
  }
  if (entries.empty() || int64_t(entries.size()) > kMaxSegmentationClasses)
    fail(ExitCode::data, "{}: expected 1 to {} classes, found {}", path, kMaxSegmentationClasses,
         entries.size());
  SegmentationClasses classes;
  for (const Line& entry : entries) {
    classes.names.push_back(escape_name(entry.name));
    if (entry.color) classes.palette.push_back(*entry.color);
  }
  classes.palette = complete_palette(std::move(classes.palette), int64_t(entries.size()));
  return classes;
}

}  // namespace sg::data
