#include "data/dataset_list.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "core/error.h"
#include "core/text.h"
#include "data/lines.h"
#include "io/file.h"

namespace sg::data {
namespace {

constexpr int64_t kMaxClasses = 1 << 24;  // as of --num-classes

// A text that some lines have as their label.
struct Label {
  std::string text;
  size_t line;  // the first of them, for errors
  std::optional<int64_t> number = parse_integer(text);
};

// The classes of labels where nothing else says them.
ClassNames classes_of(const std::string& list, const std::vector<Label>& labels, ClassOrder order) {
  ClassNames names;
  int64_t most = -1;
  for (const Label& label : labels) {
    names.push_back(escape_name(label.text));
    if (label.number && (*label.number < 0 || *label.number >= kMaxClasses))
      fail(ExitCode::data, "{}: line {}: expected the index of a class from 0, found '{}'", list,
           label.line, names.back());
    most = std::max(most, label.number.value_or(-1));
  }
  const auto names_from = [&](auto begin) {
    return std::find_if(begin, labels.end(), [](const Label& l) { return !l.number; });
  };
  if (const auto name = names_from(labels.begin()); name != labels.end()) {
    if (name == labels.begin() && labels.size() > 1 && names_from(name + 1) == labels.end())
      fail(ExitCode::data,
           "{}: line {}: label '{}', and all others are numbers; remove the line where it is a "
           "header; where it is a class --class-map FILE says what the classes are",
           list, name->line, names[0]);
    sort_classes(names, order);
    return names;
  }
  std::vector<bool> occurs(size_t(most) + 1);
  for (const Label& label : labels) occurs[size_t(*label.number)] = true;
  ClassNames missing;
  names.clear();
  for (int64_t c = 0; c <= most; ++c) {
    names.push_back(std::to_string(c));
    if (!occurs[size_t(c)]) missing.push_back(names.back());
  }
  if (!missing.empty())
    fail(ExitCode::data,
         "{}: expected as labels all of 0 to {}, {} do not occur: {}; --class-map FILE says what "
         "the classes are",
         list, most, missing.size(), some_of(missing));
  return names;
}

// The index of the class that each label means.
std::vector<int> indices_of(const std::string& list, const std::vector<Label>& labels,
                            const ClassNames& classes) {
  std::unordered_map<std::string, int> index_of;
  bool numbered = false;
  for (size_t c = 0; c < classes.size(); ++c) {
    index_of.emplace(classes[c], int(c));
    numbered |= parse_integer(classes[c]).has_value();
  }
  std::vector<int> indices;
  for (const Label& label : labels) {
    std::string name = escape_name(label.text);
    // 007 is the class 7 too.
    if (numbered && label.number && !index_of.contains(name)) name = std::to_string(*label.number);
    const bool is_index =
        !numbered && label.number && *label.number >= 0 && *label.number < int64_t(classes.size());
    if (const auto found = index_of.find(name); found != index_of.end())
      indices.push_back(found->second);
    else if (is_index)
      indices.push_back(int(*label.number));
    else
      fail(ExitCode::data, "{}: line {}: label '{}': expected one of {} classes, {}{}", list,
           label.line, name, classes.size(), some_of(classes),
           numbered ? "" : fmt::format(", or an index from 0 to {}", classes.size() - 1));
  }
  return indices;
}

}  // namespace

ListDataset::ListDataset(const std::string& list, const std::string& root,
                         const ClassNames& classes, ClassOrder order)
    : root_(root) {
  const std::string file = read_file(list, ExitCode::data);
  if (file.find('\0') != file.npos)
    fail(ExitCode::data, "{}: expected lines of 'path label', found a file that is no text", list);
  std::string_view text = without_mark(file);

  std::vector<Label> labels;
  std::unordered_map<std::string_view, int> place;  // in `labels`
  paths_.reserve(size_t(std::ranges::count(text, '\n')) + 1, text.size());
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#') continue;
    const size_t tab = line.rfind('\t');
    const size_t gap = tab == line.npos ? line.rfind(' ') : tab;
    if (gap == line.npos)
      fail(ExitCode::data, "{}: line {}: expected a path, a space or tab, and a label, found '{}'",
           list, number, escape_name(line));
    const std::string_view label = trimmed(line.substr(gap));
    const auto [found, is_new] = place.emplace(label, int(labels.size()));
    if (is_new) labels.push_back({std::string(label), number});
    labels_.push_back(found->second);
    paths_.add(trimmed(line.substr(0, gap)));
  }
  if (labels.empty()) fail(ExitCode::data, "{}: expected lines of 'path label', found none", list);

  class_names_ = classes.empty() ? classes_of(list, labels, order) : classes;
  const std::vector<int> indices = indices_of(list, labels, class_names_);
  for (int& label : labels_) label = indices[size_t(label)];
  std::vector<bool> occurs(class_names_.size());
  for (const int index : indices) occurs[size_t(index)] = true;
  ClassNames empty;
  for (size_t c = 0; c < occurs.size(); ++c)
    if (!occurs[c]) empty.push_back(class_names_[c]);
  remark_empty_classes(list, empty);
}

std::string ListDataset::name(int64_t i) const {
  const std::string path = key(i);
  return path.starts_with('/') ? path : root_ + "/" + path;
}

std::unique_ptr<Source> ListDataset::open(int64_t i, std::vector<uint8_t>& buffer) const {
  const std::string path = name(i);
  read_bytes(path, buffer);
  return open_image(buffer, path);
}

}  // namespace sg::data
