#include "data/shard_index.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "data/lines.h"
#include "data/threads.h"
#include "io/hash.h"
#include "io/json.h"
#include "io/tar.h"

namespace sg::data {
namespace fs = std::filesystem;
namespace {

constexpr int kVersion = 2;

// "a/b" of "a/b.seg.png" and ".seg.png", as WebDataset takes names apart.
std::pair<std::string_view, std::string_view> split_name(std::string_view name) {
  const size_t slash = name.rfind('/') + 1;  // 0 where there is none
  const size_t dot = std::min(name.find('.', slash), name.size());
  return {name.substr(0, dot), name.substr(dot)};
}

// 7 and 007 are one label.
std::string label_of(std::string_view text) {
  const auto number = parse_integer(text);
  return number ? std::to_string(*number) : escape_name(text);
}

// "" where it names none.
std::string label_of_json(const std::string& text, const std::string& name) {
  const nlohmann::json json = parse_json(text, name, ExitCode::data);
  if (!json.is_object()) fail(ExitCode::data, "{}: expected a JSON object", name);
  for (const char* key : {"label", "cls", "class_name"}) {
    const auto value = json.find(key);
    if (value == json.end()) continue;
    if (value->is_number_integer()) return value->dump();
    if (value->is_string()) return label_of(trimmed(value->get<std::string>()));
    fail(ExitCode::data, "{}: \"{}\": expected a whole number or the name of a class, found {}",
         name, key, value->dump().substr(0, 80));
  }
  return "";
}

// Hidden, or a system's own, as macOS puts "._a.jpg" before each a.jpg.
bool is_passed_over(const std::string& name) {
  const fs::path path(name);
  return std::any_of(path.begin(), path.end(),
                     [](const fs::path& p) { return p != "." && !is_visible_name(p.c_str()); });
}

// Gathers the files of one sample after the other.
class Indexer {
 public:
  Indexer(ShardIndex& index, TarReader& tar) : index_(index), tar_(tar) {}

  void add(const TarFile& file) {
    if (is_passed_over(file.name)) return;
    const auto [base, end] = split_name(file.name);
    if (base != base_) finish(), base_ = base;
    const std::string extension = extension_of(std::string(end));
    if (extension.size() != end.size()) {  // a.seg.png is no image of a
      ++index_.left_out[extension];
    } else if (is_image_extension(extension)) {
      if (image_)
        fail(ExitCode::data,
             "{}: a second image of one sample, after {}; give them names of "
             "their own",
             where(file), escape_name(image_->name));
      if (file.size > UINT32_MAX)
        fail(ExitCode::data, "{}: {} bytes; an image may have at most {}", where(file), file.size,
             UINT32_MAX);
      image_ = file;
    } else if (extension == ".cls") {
      cls_ = file;
    } else if (extension == ".json") {
      json_ = file;
    } else {
      ++index_.left_out[extension];
    }
  }

  void finish() {
    if (image_) {
      add_sample();
    } else if (cls_ || json_) {  // labels of no image
      if (cls_) ++index_.left_out[".cls"];
      if (json_) ++index_.left_out[".json"];
      labels_alone_.insert(base_);
    }
    // tar takes files in the order of the folder's table, which is none.
    if (images_alone_.contains(base_) && labels_alone_.contains(base_))
      fail(ExitCode::data,
           "{}: '{}': image and label do not follow each other; pack again with tar --sort=name, "
           "or files in the order of their names",
           index_.path.string(), escape_name(base_));
    image_.reset(), cls_.reset(), json_.reset();
  }

 private:
  std::string where(const TarFile& file) const {
    return index_.path.string() + ": " + escape_name(file.name);
  }

  void add_sample() {
    const std::string label = label_of_sample();
    if (label.empty()) {
      ++index_.unlabelled;
      images_alone_.insert(base_);
      return;
    }
    if (label.find('\n') != label.npos)
      fail(ExitCode::data, "{}: expected a label of one line, found several",
           where(cls_ ? *cls_ : *json_));
    index_.names += image_->name;
    const auto [place, is_new] = places_.try_emplace(label, uint32_t(index_.labels.size()));
    if (is_new) index_.labels.push_back(label);
    index_.samples.push_back({uint32_t(image_->offset / kTarBlock), uint32_t(image_->size),
                              place->second, uint32_t(index_.names.size()), image_->header});
  }

  // "" where it has none.
  std::string label_of_sample() {
    if (!cls_) return json_ ? label_of_json(tar_.read(*json_), where(*json_)) : "";
    const std::string label = label_of(trimmed(without_mark(tar_.read(*cls_))));
    if (label.empty())
      fail(ExitCode::data, "{}: expected a whole number or the name of a class, found nothing",
           where(*cls_));
    return label;
  }

  ShardIndex& index_;
  TarReader& tar_;
  std::string base_;
  std::optional<TarFile> image_, cls_, json_;
  std::set<std::string> images_alone_, labels_alone_;  // names of samples
  std::map<std::string, uint32_t> places_;
};

// Size and time of a file as it is now.
ShardIndex stat_of(const fs::path& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0)
    fail(ExitCode::data, "{}: no such shard: {}", path.string(), std::strerror(errno));
  ShardIndex index;
  index.path = path, index.size = uint64_t(info.st_size);
  index.modified = int64_t(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec;
  return index;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + '\n';
  return text;
}

// An index file: u64 bytes of a JSON head that has a row a shard; then of each shard its samples
// as they lie in memory, names, and labels, a line each; then XXH3 of all before it.
void write_index(const fs::path& path, const std::vector<const ShardIndex*>& shards) {
  nlohmann::json rows = nlohmann::json::array();
  for (const ShardIndex* s : shards) {
    nlohmann::json left_out = nlohmann::json::object();
    for (const auto& [extension, n] : s->left_out) left_out[escape_name(extension)] = n;
    rows.push_back({{"name", escape_name(s->path.filename().string())},
                    {"size", s->size},
                    {"modified", s->modified},
                    {"samples", s->samples.size()},
                    {"names", s->names.size()},
                    {"labels", joined(s->labels).size()},
                    {"unlabelled", s->unlabelled},
                    {"left_out", left_out}});
  }
  const std::string head = nlohmann::json{{"sgindex", kVersion}, {"shards", rows}}.dump();
  AtomicFile file(path, ExitCode::data);
  Hash hash;
  const auto write = [&](const void* bytes, size_t size) {
    file.write(bytes, size);
    hash.add(bytes, size);
  };
  const uint64_t head_bytes = head.size();
  write(&head_bytes, sizeof head_bytes);
  write(head.data(), head.size());
  for (const ShardIndex* s : shards) {
    const std::string labels = joined(s->labels);
    write(s->samples.data(), s->samples.size() * sizeof(ShardSample));
    write(s->names.data(), s->names.size());
    write(labels.data(), labels.size());
  }
  const uint64_t sum = hash.digest();
  file.write(&sum, sizeof sum);
  file.commit_unsynced();
}

// Throws where something else has the name of the index.
void check_own(const fs::path& path) {
  std::error_code absent;
  if (!fs::exists(fs::symlink_status(path, absent))) return;
  constexpr std::string_view kBegin = "{\"sgindex\":";
  std::string begin(sizeof(uint64_t) + kBegin.size(), '\0');
  const InputFile file(path, ExitCode::data);
  if (file.size() == 0) return;  // as a loss of power may leave ours
  if (file.size() >= begin.size()) file.read(0, begin.data(), begin.size());
  if (!begin.ends_with(kBegin))
    fail(ExitCode::data, "{}: exists, and is no index of shards", path.string());
}

// Whether every number in it fits the others.
bool is_sound(const ShardIndex& s) {
  uint64_t end = 0;
  for (const ShardSample& sample : s.samples) {
    if (sample.block == 0 || sample.offset() > s.size || sample.bytes > s.size - sample.offset() ||
        sample.label >= s.labels.size() || sample.name_end < end)
      return false;
    end = sample.name_end;
  }
  return end == s.names.size();
}

// The shards of an index file by name. Throws an Error, or nlohmann's exception, where it is
// damaged.
std::map<std::string, ShardIndex> read_index(const fs::path& path) {
  const InputFile file(path, ExitCode::data);
  uint64_t head_bytes = 0, sum = 0;
  const auto require = [&](bool ok) {
    if (!ok) fail(ExitCode::data, "{}: damaged", path.string());
  };
  require(file.size() >= sizeof head_bytes + sizeof sum);
  const uint64_t end = file.size() - sizeof sum;
  file.read(end, &sum, sizeof sum);
  require(hash_of(file, end) == sum);
  uint64_t at = sizeof head_bytes;
  // Never more than is there: sizes are checked before memory is taken.
  const auto take = [&](void* to, uint64_t bytes) { file.read(at, to, bytes), at += bytes; };
  const auto fits = [&](uint64_t count, uint64_t each) { require(count <= (end - at) / each); };
  file.read(0, &head_bytes, sizeof head_bytes);
  fits(head_bytes, 1);
  std::string head(head_bytes, '\0');
  take(head.data(), head_bytes);
  const nlohmann::json json = parse_json(head, path.string(), ExitCode::data);
  if (json.at("sgindex") != kVersion) fail(ExitCode::data, "{}: of another version", path.string());
  std::map<std::string, ShardIndex> shards;
  for (const nlohmann::json& row : json.at("shards")) {
    ShardIndex s;
    s.size = row.at("size").get<uint64_t>(), s.modified = row.at("modified").get<int64_t>();
    s.unlabelled = row.at("unlabelled").get<int64_t>();
    for (const auto& [extension, n] : row.at("left_out").items())
      s.left_out[unescape_name(extension)] = n.get<int64_t>();
    const auto samples = row.at("samples").get<uint64_t>(), names = row.at("names").get<uint64_t>(),
               labels = row.at("labels").get<uint64_t>();
    fits(samples, sizeof(ShardSample));
    s.samples.resize(samples);
    take(s.samples.data(), samples * sizeof(ShardSample));
    fits(names, 1);
    s.names.resize(names);
    take(s.names.data(), names);
    fits(labels, 1);
    std::string lines(labels, '\0');
    take(lines.data(), labels);
    for (size_t begin = 0, next; begin < lines.size(); begin = next + 1) {
      next = std::min(lines.find('\n', begin), lines.size());
      s.labels.push_back(lines.substr(begin, next - begin));
    }
    require(is_sound(s));
    shards[unescape_name(row.at("name").get<std::string>())] = std::move(s);
  }
  return shards;
}

// The shards of one folder.
class FolderIndex {
 public:
  FolderIndex(const fs::path& folder, const fs::path& cache) : beside_(folder / kShardIndexFile) {
    if (!cache.empty()) {
      // Not absolute(), which refuses "".
      const std::string name = (fs::current_path() / folder).lexically_normal().string();
      in_cache_ = cache / fmt::format("shards-{}.sgindex", hex(hash_of(name)));
    }
    for (const fs::path& path : {beside_, in_cache_}) {
      std::error_code absent;
      if (path.empty() || !fs::exists(path, absent)) continue;
      try {
        known_.merge(read_index(path));
      } catch (const std::exception& e) {
        spdlog::warn("the index of shards is made again: {}", e.what());
      }
    }
  }

  // The index of a shard as it is now, or nothing.
  std::optional<ShardIndex> take(const ShardIndex& now) {
    const auto [begin, end] = known_.equal_range(now.path.filename().string());
    const auto found = std::find_if(begin, end, [&](const auto& known) {
      return known.second.size == now.size && known.second.modified == now.modified;
    });
    std::optional<ShardIndex> index;
    if (found != end) index = std::move(found->second), index->path = now.path;
    known_.erase(begin, end);  // what is stale would take memory
    return index;
  }

  // With those that were not asked for this time.
  void write(const std::vector<const ShardIndex*>& shards) {
    std::vector<const ShardIndex*> all = shards;
    for (auto& [name, index] : known_) {
      index.path = name;
      all.push_back(&index);
    }
    std::string problem;
    for (const fs::path& path : {beside_, in_cache_}) {
      if (path.empty()) continue;
      try {
        check_own(path);
        if (path == in_cache_) fs::create_directories(path.parent_path());
        return write_index(path, all);
      } catch (const std::exception& e) {
        problem = e.what();
      }
    }
    spdlog::warn("the index of shards cannot be kept and is made again at each start: {}", problem);
  }

 private:
  fs::path beside_, in_cache_;
  std::multimap<std::string, ShardIndex> known_;  // the file in the cache may be the newer one
};

// Indexes shards[i] for all i of `places`.
void read_shards(std::vector<ShardIndex>& shards, const std::vector<size_t>& places) {
  std::mutex mutex;
  size_t done = 0;
  auto said = std::chrono::steady_clock::now();
  each_by_threads(kWaitingThreads, places.size(), [&](size_t i) {
    ShardIndex& shard = shards[places[i]];
    shard = index_shard(shard.path);
    const std::lock_guard lock(mutex);
    ++done;
    const auto now = std::chrono::steady_clock::now();
    if (now - said < std::chrono::seconds(5)) return;
    said = now;
    spdlog::info("indexing shards, once: {} of {}", done, places.size());
  });
}

}  // namespace

ShardIndex index_shard(const fs::path& path) {
  ShardIndex index = stat_of(path);
  const InputFile file(path, ExitCode::data);
  if (index.size / kTarBlock > UINT32_MAX)
    fail(ExitCode::data, "{}: {} bytes; a shard may have at most 2 TB; make smaller ones",
         path.string(), index.size);
  TarReader tar(file);
  Indexer indexer(index, tar);
  while (const auto entry = tar.next()) indexer.add(*entry);
  indexer.finish();
  index.samples.shrink_to_fit(), index.names.shrink_to_fit();
  return index;
}

std::vector<ShardIndex> index_shards(const std::vector<fs::path>& shards, const fs::path& cache) {
  std::vector<ShardIndex> all;
  std::map<fs::path, FolderIndex> folders;
  std::vector<size_t> unknown;
  std::set<fs::path> changed;
  for (const fs::path& path : shards) {
    const ShardIndex now = stat_of(path);
    const fs::path folder = path.parent_path();
    auto found = folders.try_emplace(folder, folder, cache).first->second.take(now);
    if (!found) unknown.push_back(all.size()), changed.insert(folder);
    all.push_back(found ? std::move(*found) : now);
  }
  read_shards(all, unknown);
  for (const fs::path& folder : changed) {
    std::vector<const ShardIndex*> of_folder;
    for (const ShardIndex& s : all)
      if (s.path.parent_path() == folder) of_folder.push_back(&s);
    folders.at(folder).write(of_folder);
  }
  return all;
}

}  // namespace sg::data
