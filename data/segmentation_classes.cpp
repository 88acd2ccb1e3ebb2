#include <algorithm>
#include <map>
#include <optional>

#include "core/text.h"
#include "data/lines.h"
#include "data/segmentation_dataset.h"
#include "io/file.h"

namespace sg::data {
namespace {

struct Line {
  std::optional<int64_t> number;
  std::string name;
};

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
  return {number, std::string(trimmed(line.substr(0, line.find_first_of(";,\"\t"))))};
}

Line of_class_list(std::string_view line) {
  const auto column = [&] {
    const std::string_view text = line.substr(0, line.find('\t'));
    line.remove_prefix(std::min(text.size() + 1, line.size()));
    return trimmed(text);
  };
  const bool has_columns = line.find('\t') != line.npos;
  const std::string_view first = column();
  const std::optional<int64_t> number = has_columns ? parse_integer(first) : std::nullopt;
  return {number, std::string(number ? column() : first)};
}

}  // namespace

ClassNames read_segmentation_classes(const std::string& path, bool reduce_zero_label) {
  const std::string file = read_file(path, ExitCode::data);
  std::string_view text = without_mark(file);
  if (text.starts_with('{') || text.starts_with('[')) return read_class_map(path);
  const std::string_view heading = text.substr(0, text.find('\n'));
  const bool is_object_info = heading.starts_with("Idx");
  const char separator = heading.find('\t') != heading.npos ? '\t' : ',';
  std::map<int64_t, std::string> by_number;
  ClassNames names;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#' || (is_object_info && number == 1)) continue;
    const Line entry = is_object_info ? of_object_info(line, separator) : of_class_list(line);
    const bool mixed = entry.number ? !names.empty() : !by_number.empty();
    if (entry.name.empty() || mixed || (is_object_info && !entry.number))
      fail(ExitCode::data,
           "{}: line {}: expected a number, a tab and the name of a class, or names alone, found "
           "'{}'",
           path, number, escape_name(line));
    if (!entry.number) {
      names.push_back(escape_name(entry.name));
    } else if (!by_number.emplace(*entry.number, escape_name(entry.name)).second) {
      fail(ExitCode::data, "{}: line {}: a second class of number {}", path, number, *entry.number);
    }
  }
  if (reduce_zero_label) by_number.erase(0);
  const int64_t first = reduce_zero_label ? 1 : 0;
  if (!by_number.empty() && by_number.begin()->first == 1 && !reduce_zero_label)
    fail(ExitCode::data,
         "{}: its classes are numbered from 1; --reduce-zero-label makes 1 the first class, and 0 "
         "pixels without one; where 0 is a class, add its line",
         path);
  for (const auto& [number, name] : by_number) {
    if (number != first + int64_t(names.size()))
      fail(ExitCode::data, "{}: expected a class of number {}, found the next to be {} ('{}')",
           path, first + int64_t(names.size()), number, name);
    names.push_back(name);
  }
  if (names.empty() || int64_t(names.size()) > kMaxSegmentationClasses)
    fail(ExitCode::data, "{}: expected 1 to {} classes, found {}", path, kMaxSegmentationClasses,
         names.size());
  return names;
}

}  // namespace sg::data
