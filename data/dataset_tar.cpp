#include "data/dataset_tar.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "io/tar.h"

namespace sg::data {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxShards = 1'000'000;
constexpr int64_t kMaxClasses = 1 << 20;  // of labels that are numbers

// What {...} stands for: "000..099" or "a,b,c".
std::vector<std::string> choices_of(const std::string& inside, const std::string& pattern) {
  std::vector<std::string> choices;
  if (const size_t dots = inside.find(".."); dots != inside.npos) {
    const std::string first = inside.substr(0, dots), last = inside.substr(dots + 2);
    const auto begin = parse_integer(first), end = parse_integer(last);
    if (!begin || !end || *begin < 0 || *end < *begin || *end - *begin >= int64_t(kMaxShards))
      fail(ExitCode::usage, "{}: expected a range like {{000..099}}, found {{{}}}", pattern,
           inside);
    for (int64_t n = *begin; n <= *end; ++n)
      choices.push_back(fmt::format("{:0{}}", n, first.size()));
    return choices;
  }
  for (size_t at = 0; at <= inside.size();) {
    const size_t comma = std::min(inside.find(',', at), inside.size());
    choices.push_back(inside.substr(at, comma - at));
    at = comma + 1;
  }
  return choices;
}

std::vector<std::string> expand_braces(const std::string& pattern) {
  std::vector<std::string> all{""};
  for (size_t at = 0; at < pattern.size();) {
    const size_t open = std::min(pattern.find('{', at), pattern.size());
    std::vector<std::string> choices{""};
    size_t next = open;
    if (open < pattern.size()) {
      const size_t close = pattern.find('}', open);
      if (close == pattern.npos) fail(ExitCode::usage, "{}: a '{{' without its '}}'", pattern);
      if (pattern.find('{', open + 1) < close)
        fail(ExitCode::usage, "{}: a '{{' within another; expected choices like {{a,b}}", pattern);
      choices = choices_of(pattern.substr(open + 1, close - open - 1), pattern);
      next = close + 1;
    }
    if (all.size() * choices.size() > kMaxShards)
      fail(ExitCode::usage, "{}: stands for more than {} shards", pattern, kMaxShards);
    std::vector<std::string> longer;
    for (const std::string& begin : all)
      for (const std::string& choice : choices)
        longer.push_back(begin + pattern.substr(at, open - at) + choice);
    all = std::move(longer);
    at = next;
  }
  return all;
}

// The files in `folder`, whose name stands for itself, that `pattern` matches.
std::vector<fs::path> glob_of(const fs::path& folder, const std::string& pattern) {
  std::string all;
  for (const char c : (folder / "").string()) {
    if (c == '*' || c == '?' || c == '[' || c == '\\') all += '\\';
    all += c;
  }
  all += pattern;
  glob_t found{};
  const int code = ::glob(all.c_str(), 0, nullptr, &found);
  const std::unique_ptr<glob_t, decltype(&::globfree)> owner(&found, ::globfree);
  if (code != 0 && code != GLOB_NOMATCH)
    fail(ExitCode::data, "{}: cannot be searched for shards", (folder / pattern).string());
  return {found.gl_pathv, found.gl_pathv + found.gl_pathc};
}

// Images are read one by one, which a compressed archive does not allow.
void refuse_compressed(const std::string& path) {
  for (const char* end : {".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tar.lz4"})
    if (path.ends_with(end))
      fail(ExitCode::data,
           "{}: expected shards that are not compressed; unpack it to .tar (gunzip, zstd -d, ...): "
           "images are compressed already",
           path);
}

// The names in classes.txt beside the shards or above; empty where there is none.
ClassNames read_classes(const fs::path& shard) {
  const fs::path folder = shard.has_parent_path() ? shard.parent_path() : fs::path(".");
  for (const fs::path& path : {folder / "classes.txt", folder / ".." / "classes.txt"}) {
    std::error_code absent;
    if (fs::is_regular_file(path, absent)) return read_class_map(path.lexically_normal().string());
  }
  return {};
}

}  // namespace

bool is_shard_pattern(const std::string& text) {
  std::error_code absent;
  if (!fs::is_directory(text, absent)) refuse_compressed(text);
  return text.ends_with(".tar") && !fs::is_directory(text, absent);
}

std::vector<fs::path> find_shards(const std::string& place) {
  std::vector<fs::path> shards, others;
  std::error_code error;
  if (fs::is_directory(place, error)) {
    bool has_folders = false;  // of classes
    list_folder(place, [&](const std::string& name, bool is_folder) {
      has_folders |= is_folder;
      (name.ends_with(".tar") ? shards : others).push_back(fs::path(place) / name);
    });
    if (has_folders) return {};
    if (shards.empty() && std::ranges::none_of(others, [](const fs::path& path) {
          return is_image_extension(extension_of(path.string()));
        }))
      for (const fs::path& other : others) refuse_compressed(other.string());
    std::ranges::sort(shards);
    return shards;
  }
  if (!is_shard_pattern(place)) return {};
  // A folder that is there stands for itself, whatever signs its name has.
  fs::path folder = fs::path(place).parent_path();
  if (!folder.empty() && !fs::is_directory(folder, error)) folder.clear();
  const std::string pattern = folder.empty() ? place : fs::path(place).filename().string();
  size_t absent = 0;
  std::string first_absent;
  for (const std::string& name : expand_braces(pattern)) {
    const std::vector<fs::path> found = fs::exists(folder / name, error)
                                            ? std::vector<fs::path>{folder / name}
                                            : glob_of(folder, name);
    if (found.empty() && absent++ == 0) first_absent = (folder / name).string();
    shards.insert(shards.end(), found.begin(), found.end());
  }
  if (absent > 0)
    fail(ExitCode::data, "{}: no such shard: {}{}", place, first_absent,
         absent > 1 ? fmt::format(", and {} more", absent - 1) : "");
  auto sorted = shards;
  std::ranges::sort(sorted);
  if (const auto twice = std::ranges::adjacent_find(sorted); twice != sorted.end())
    fail(ExitCode::usage, "{}: names {} twice", place, twice->string());
  return shards;
}

std::string pattern_of_split(const fs::path& folder, const std::string& name) {
  for (const char* form : {"{}-*.tar", "{}_*.tar", "{}[0-9]*.tar", "{}.tar", "*-{}-*.tar"}) {
    const std::string pattern = fmt::format(fmt::runtime(form), name);
    if (!glob_of(folder, pattern).empty()) return (folder / pattern).string();
  }
  return "";
}

void refuse_compressed_split(const fs::path& folder, const std::string& name) {
  for (const char* form : {"{}*.tar.*", "{}*.tgz", "*-{}-*.tar.*"})
    for (const fs::path& path : glob_of(folder, fmt::format(fmt::runtime(form), name)))
      refuse_compressed(path.string());
}

ClassNames TarDataset::list_classes(const std::vector<fs::path>& shards) {
  return shards.empty() ? ClassNames{} : read_classes(shards[0]);
}

TarDataset::TarDataset(const std::vector<fs::path>& shards, const ClassNames& classes,
                       ClassOrder order, const fs::path& cache)
    : shards_(index_shards(shards, cache)) {
  int64_t unlabelled = 0;
  LeftOut left_out;
  for (const ShardIndex& s : shards_) {
    ends_.push_back((ends_.empty() ? 0 : ends_.back()) + int64_t(s.samples.size()));
    unlabelled += s.unlabelled;
    for (const auto& [extension, n] : s.left_out) left_out[extension] += n;
  }
  const std::string others = describe(left_out);
  if (ends_.empty() || size() == 0)
    fail(ExitCode::data,
         "{}: expected images with a .cls or .json of the same name behind or before them, found "
         "{} images without; other files: {}; of a name what is before its first dot counts",
         shards.empty() ? "shards" : shards[0].string(), unlabelled,
         others.empty() ? "none" : others);
  const std::string where =
      shards[0].string() +
      (shards.size() > 1 ? fmt::format(" and {} more", shards.size() - 1) : "");
  if (unlabelled > 0)
    remarks_.push_back(fmt::format("{}: left out: {} images without a .cls, or .json with a label",
                                   where, unlabelled));
  if (!others.empty()) remarks_.push_back(fmt::format("{}: left out: {}", where, others));
  resolve_labels(list_classes(shards), classes, order);
}

// Labels become classes.
void TarDataset::resolve_labels(const ClassNames& of_file, const ClassNames& classes,
                                ClassOrder order) {
  std::set<std::string> labels;
  for (const ShardIndex& s : shards_) labels.insert(s.labels.begin(), s.labels.end());
  const auto is_number = [](const std::string& text) { return parse_integer(text).has_value(); };
  // Beside classes that have numbers for names a number is one of these, as in lists.
  const bool numbers = std::ranges::all_of(labels, is_number) &&
                       (!of_file.empty() || std::ranges::none_of(classes, is_number));
  ClassNames names = of_file;  // of the labels that are numbers, or all that there are
  if (names.empty() && !numbers) {
    names.assign(labels.begin(), labels.end());
    sort_classes(names, order);
  } else if (names.empty() && !classes.empty()) {
    names = classes;
  } else if (names.empty()) {
    int64_t most = 0;
    for (const std::string& label : labels) most = std::max(most, *parse_integer(label));
    for (int64_t c = 0; c <= std::min(most, kMaxClasses); ++c) names.push_back(std::to_string(c));
  }
  class_names_ = classes.empty() ? names : classes;
  std::map<std::string, int> places;
  for (size_t c = 0; c < class_names_.size(); ++c) places[class_names_[c]] = int(c);

  std::vector<bool> seen(class_names_.size());
  ClassNames unknown;
  for (ShardIndex& s : shards_) {
    std::vector<int> of_label;
    for (const std::string& label : s.labels) {
      const std::string* name = &label;
      if (numbers) {
        const int64_t index = *parse_integer(label);
        if (index < 0 || index >= int64_t(names.size()) || index >= kMaxClasses)
          fail(ExitCode::data, "{}: label {}: expected 0 to {}, an index of the {} classes{}",
               s.path.string(), label, names.size() - 1, names.size(),
               of_file.empty() ? "" : " in classes.txt");
        name = &names[size_t(index)];
      }
      const auto place = places.find(*name);
      if (place == places.end()) unknown.push_back(*name);
      of_label.push_back(place == places.end() ? 0 : place->second);
      seen[size_t(of_label.back())] = true;
    }
    for (ShardSample& sample : s.samples) sample.label = uint32_t(of_label[sample.label]);
  }
  std::ranges::sort(unknown);
  unknown.erase(std::unique(unknown.begin(), unknown.end()), unknown.end());
  if (!unknown.empty())
    fail(ExitCode::data,
         "{}: classes that the model, the training set or classes.txt does not have: {}; its {} "
         "classes are {}",
         shards_[0].path.string(), some_of(unknown), class_names_.size(), some_of(class_names_));
  ClassNames empty;
  for (size_t c = 0; c < seen.size(); ++c)
    if (!seen[c]) empty.push_back(class_names_[c]);
  remark_empty_classes(shards_[0].path.string(), empty);
}

TarDataset::Place TarDataset::place_of(int64_t i) const {
  const auto s = size_t(std::ranges::upper_bound(ends_, i) - ends_.begin());
  return {shards_[s], size_t(i - (s ? ends_[s - 1] : 0))};
}

int TarDataset::label(int64_t i) const {
  const auto [shard, at] = place_of(i);
  return int(shard.samples[at].label);
}

std::string TarDataset::name(int64_t i) const {
  const auto [shard, at] = place_of(i);
  return shard.path.string() + "/" + std::string(shard.name(at));
}

std::string TarDataset::key(int64_t i) const {
  const auto [shard, at] = place_of(i);
  return std::string(shard.name(at));
}

std::unique_ptr<Source> TarDataset::open(int64_t i, std::vector<uint8_t>& buffer) const {
  const auto [shard, at] = place_of(i);
  const ShardSample& sample = shard.samples[at];
  const InputFile file(shard.path, ExitCode::data);
  char header[kTarBlock] = {};
  if (file.size() == shard.size) file.read(sample.offset() - kTarBlock, header, kTarBlock);
  if (tar_header_hash({header, kTarBlock}) != sample.header)
    fail(ExitCode::data, "{}: the shard has changed since it was indexed; start again", name(i));
  buffer.resize(sample.bytes);
  file.read(sample.offset(), buffer.data(), buffer.size());
  return open_image(buffer, name(i));
}

void TarDataset::prefetch(int64_t i) const {
  const auto [shard, at] = place_of(i);
  const ShardSample& sample = shard.samples[at];
  const FileDescriptor fd(::open(shard.path.c_str(), O_RDONLY | O_CLOEXEC));
  // A hint: where it is not taken, open() waits longer.
  if (fd.get() >= 0)
    ::posix_fadvise(fd.get(), off_t(sample.offset() - kTarBlock), off_t(sample.bytes + kTarBlock),
                    POSIX_FADV_WILLNEED);
}

}  // namespace sg::data
