#include "data/class_names.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/text.h"
#include "data/lines.h"
#include "io/file.h"
#include "io/json.h"

namespace sg::data {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; }

// Takes the digits, or what is no digit, at the front of `s` away and returns them.
std::string_view take(std::string_view& s, bool digits) {
  size_t n = 0;
  while (n < s.size() && is_digit(s[n]) == digits) ++n;
  const std::string_view taken = s.substr(0, n);
  s.remove_prefix(n);
  return taken;
}

// Below, above or at 0 as a < b in timm's natural order.
int compare_naturally(std::string_view a, std::string_view b) {
  const auto sign = [](int v) { return (v > 0) - (v < 0); };
  for (bool digits = false; !a.empty() || !b.empty(); digits = !digits) {
    std::string x(take(a, digits)), y(take(b, digits));
    int order = 0;
    if (digits && !x.empty() && !y.empty()) {
      x.erase(0, std::min(x.find_first_not_of('0'), x.size()));
      y.erase(0, std::min(y.find_first_not_of('0'), y.size()));
      order = x.size() != y.size() ? (x.size() < y.size() ? -1 : 1) : sign(x.compare(y));
    } else {
      std::ranges::transform(x, x.begin(), lower), std::ranges::transform(y, y.begin(), lower);
      order = sign(x.compare(y));
    }
    if (order != 0) return order;
  }
  return 0;
}

// The characters of valid UTF-8.
std::vector<char32_t> characters(std::string_view s) {
  std::vector<char32_t> result;
  for (const char c : s) {
    const auto byte = uint8_t(c);
    if ((byte & 0xC0) != 0x80)
      result.push_back(byte < 0x80   ? byte
                       : byte < 0xE0 ? byte & 0x1F
                       : byte < 0xF0 ? byte & 15
                                     : byte & 7);
    else if (!result.empty())
      result.back() = result.back() << 6 | (byte & 0x3F);
  }
  return result;
}

// Accents, the marks of kana, and the vowels and finals of Korean syllables.
bool is_mark(char32_t c) {
  return (c >= 0x300 && c <= 0x36F) || c == 0x3099 || c == 0x309A || (c >= 0x1161 && c <= 0x11FF);
}
// What may be one character for a letter with marks: letters up to Greek Extended, kana, Korean.
bool may_be_composed(char32_t c) {
  return !is_mark(c) && ((c >= 0xC0 && c <= 0x1FFF) || (c >= 0x3040 && c <= 0x30FF) ||
                         (c >= 0xAC00 && c <= 0xD7A3));
}

// A name with one sign for what may be either form, and for each sign whether marks follow a
// letter.
struct Shape {
  std::vector<char32_t> outline;
  std::vector<std::vector<char32_t>> forms;  // the characters of each sign
};
Shape shape_of(const std::string& name) {
  const std::vector<char32_t> all = characters(name);
  Shape shape;
  for (size_t i = 0; i < all.size();) {
    size_t end = i + 1;
    while (end < all.size() && is_mark(all[end])) ++end;
    if (end == i + 1 && !may_be_composed(all[i])) {
      shape.outline.push_back(all[i]);
    } else {
      shape.outline.push_back(0);
      shape.forms.emplace_back(all.begin() + long(i), all.begin() + long(end));
    }
    i = end;
  }
  return shape;
}

bool look_alike(const Shape& a, const Shape& b) {
  for (size_t i = 0; i < a.forms.size(); ++i)
    if (a.forms[i] != b.forms[i] && (a.forms[i].size() == 1) == (b.forms[i].size() == 1))
      return false;  // two letters, or two sets of marks
  return true;
}

// Not empty, but for those at the end.
std::vector<std::string> lines_of(const std::string& file) {
  std::istringstream text{std::string(without_mark(file))};
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.emplace_back(trimmed(line));
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

// The names of "name index" lines in order of index; empty where the lines are names alone.
ClassNames by_index(const std::vector<std::string>& lines) {
  ClassNames names(lines.size());
  std::set<std::string> seen;
  for (const std::string& line : lines) {
    const size_t space = line.find_last_of(" \t");
    if (space == line.npos) return {};
    size_t index = 0;
    const char *begin = line.data() + space + 1, *end = line.data() + line.size();
    const auto [stop, error] = std::from_chars(begin, end, index);
    const std::string name(trimmed(std::string_view(line).substr(0, space)));
    if (error != std::errc() || stop != end || index >= names.size() || !names[index].empty() ||
        !seen.insert(name).second)
      return {};
    names[index] = name;
  }
  return names;
}

// [name, ...], {name: index}, as torchvision's class_to_idx, or {index: name}, as id2label of
// Hugging Face.
ClassNames names_of_json(const std::string& path, const std::string& text) {
  const nlohmann::json json = parse_json(text, path, ExitCode::data);
  ClassNames names(json.size());
  for (const auto& [key, value] : json.items()) {
    const bool by_name = value.is_number_integer();
    const auto index = by_name ? std::optional(value.get<int64_t>()) : parse_integer(key);
    if (!(by_name ? json.is_object() : value.is_string()) || !index || *index < 0 ||
        *index >= int64_t(names.size()) || !names[size_t(*index)].empty())
      fail(ExitCode::data,
           "{}: '{}': expected [name, ...], {{name: index}} or {{index: name}}, every index from 0 "
           "to {} once, found {}",
           path, key, json.size() - 1, value.dump());
    names[size_t(*index)] = by_name ? key : value.get<std::string>();
  }
  return names;
}

ClassTitles titles_of_json(const std::string& path, const std::string& text) {
  const nlohmann::json json = parse_json(text, path, ExitCode::data);
  ClassTitles titles;
  for (const auto& [key, value] : json.items()) {
    if (value.is_string())
      titles[key] = value.get<std::string>();
    else if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string())
      titles[value[0].get<std::string>()] = value[1].get<std::string>();
    else
      fail(ExitCode::data, "{}: '{}': expected a text or [\"name\", \"title\"], found {}", path,
           key, value.dump());
  }
  return titles;
}

}  // namespace

ClassOrder parse_class_order(std::string_view name) {
  if (name == "name") return ClassOrder::name;
  if (name == "natural") return ClassOrder::natural;
  fail(ExitCode::usage, "--class-order: expected name or natural, found '{}'", name);
}

void sort_classes(ClassNames& names, ClassOrder order) {
  // By their bytes, not as they are written: an escaped byte sorts as what it stands for.
  std::ranges::sort(names, {}, unescape_name);
  if (order == ClassOrder::natural)
    std::ranges::stable_sort(names, [](const std::string& a, const std::string& b) {
      return compare_naturally(a, b) < 0;
    });
}

ClassNames read_class_map(const std::string& path) {
  const std::string text = read_file(path, ExitCode::data);
  const std::vector<std::string> lines = lines_of(text);
  if (lines.empty()) fail(ExitCode::data, "{}: expected a class name a line, found none", path);
  const bool is_json = lines[0].starts_with('{') || lines[0].starts_with('[');
  ClassNames names = is_json ? names_of_json(path, text) : by_index(lines);
  if (names.empty() && is_json) fail(ExitCode::data, "{}: expected class names, found none", path);
  if (names.empty()) names = lines;
  std::set<std::string> seen;
  for (size_t i = 0; i < names.size(); ++i) {
    names[i] = escape_name(names[i]);
    if (names[i].empty())
      fail(ExitCode::data, "{}: {} {}: expected a class name, found none", path,
           is_json ? "index" : "line", is_json ? i : i + 1);
    if (!seen.insert(names[i]).second)
      fail(ExitCode::data, "{}: class '{}' occurs twice", path, names[i]);
  }
  return names;
}

ClassTitles read_class_titles(const std::string& path) {
  const std::string text = read_file(path, ExitCode::data);
  if (trimmed(text).starts_with('{')) return titles_of_json(path, text);
  ClassTitles titles;
  size_t number = 0;
  for (const std::string& line : lines_of(text)) {
    ++number;
    const size_t space = line.find_first_of(" \t");
    if (space == line.npos)
      fail(ExitCode::data, "{}: line {}: expected 'name title', found '{}'", path, number, line);
    titles[escape_name(line.substr(0, space))] =
        escape_odd_bytes(trimmed(std::string_view(line).substr(space)));
  }
  return titles;
}

ClassTitles find_class_titles(const std::string& folder) {
  for (const char* name :
       {"LOC_synset_mapping.txt", "synset_words.txt", "imagenet_class_index.json"}) {
    const std::filesystem::path path = std::filesystem::path(folder) / name;
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) continue;
    try {
      return read_class_titles(path.string());
    } catch (const Error& e) {  // nobody asked for it
      spdlog::warn("{}; no titles of classes are taken from it", escape_odd_bytes(e.what()));
    }
  }
  return {};
}

std::string class_name(const ClassNames& names, int64_t c) {
  return c < int64_t(names.size()) ? names[size_t(c)] : fmt::format("class {}", c);
}

std::string titled(const std::string& name, const ClassTitles& titles) {
  const auto found = titles.find(name);
  return found == titles.end() ? name : fmt::format("{} ({})", found->second, name);
}

std::vector<std::pair<std::string, std::string>> look_alikes(const ClassNames& names) {
  std::map<std::vector<char32_t>, std::vector<std::pair<std::string, Shape>>> groups;
  for (const std::string& name : names) {
    Shape shape = shape_of(name);
    if (!shape.forms.empty()) groups[shape.outline].emplace_back(name, std::move(shape));
  }
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const auto& [outline, group] : groups)
    for (size_t i = 0; i < group.size(); ++i)
      for (size_t j = i + 1; j < group.size(); ++j)
        if (group[i].first != group[j].first && look_alike(group[i].second, group[j].second))
          pairs.emplace_back(group[i].first, group[j].first);
  return pairs;
}

std::string some_of(const ClassNames& names) {
  const size_t shown = std::min<size_t>(names.size(), 5);
  std::string text;
  for (size_t i = 0; i < shown; ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

}  // namespace sg::data
