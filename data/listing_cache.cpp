#include "data/listing_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <unordered_map>

#include "core/error.h"
#include "data/threads.h"
#include "io/file.h"
#include "io/hash.h"

namespace sg::data {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kMagic = "SGLIST 1";  // the last character is the version
constexpr size_t kChecksumBytes = 8;

class Writer {
 public:
  void number(uint64_t v) { bytes_.append(reinterpret_cast<const char*>(&v), sizeof v); }
  void text(std::string_view s) { number(s.size()), bytes_ += s; }
  void listing(const FolderListing& listing) {
    number(listing.folders.size());
    for (const auto& [path, state] : listing.folders) {
      text(path), number(state.inode);
      number(uint64_t(state.modified)), number(uint64_t(state.changed));
    }
    number(listing.left_out.size());
    for (const auto& [extension, count] : listing.left_out)
      text(extension), number(uint64_t(count));
    number(listing.images.size());
    for (size_t i = 0; i < listing.images.size(); ++i) text(listing.images[i]);
  }
  std::string& bytes() { return bytes_; }

 private:
  std::string bytes_;
};

// Throws ExitCode::data at the end of the bytes.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}
  uint64_t number() {
    uint64_t v = 0;
    std::memcpy(&v, take(sizeof v).data(), sizeof v);
    return v;
  }
  std::string_view text() { return take(number()); }
  FolderListing listing() {
    FolderListing l;
    for (uint64_t n = number(); n > 0; --n) {
      FolderState& state = l.folders[std::string(text())];
      state.inode = number(), state.modified = int64_t(number()), state.changed = int64_t(number());
    }
    for (uint64_t n = number(); n > 0; --n) {
      int64_t& count = l.left_out[std::string(text())];
      count = int64_t(number());
    }
    for (uint64_t n = number(); n > 0; --n) l.images.add(text());
    return l;
  }

 private:
  std::string_view take(uint64_t bytes) {
    if (bytes > left_.size()) fail(ExitCode::data, "the file is shorter than it says");
    const std::string_view taken = left_.substr(0, bytes);
    left_.remove_prefix(bytes);
    return taken;
  }
  std::string_view left_;
};

using Known = std::unordered_map<std::string, FolderListing>;

bool is_own(const fs::path& file) {
  struct stat info;
  return ::lstat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == ::geteuid();
}

// What a cache file says of `folder`; nothing where it is not as write_cache() makes it.
Known read_cache(const fs::path& file, const std::string& folder) try {
  if (!is_own(file)) return {};
  const std::string bytes = read_file(file, ExitCode::data);
  if (bytes.size() < kChecksumBytes) return {};
  const std::string_view body = std::string_view(bytes).substr(0, bytes.size() - kChecksumBytes);
  if (Reader(std::string_view(bytes).substr(body.size())).number() != hash_of(body) ||
      !body.starts_with(kMagic))
    return {};
  Reader reader(body.substr(kMagic.size()));
  if (reader.text() != folder) return {};
  Known known;
  for (uint64_t n = reader.number(); n > 0; --n) {
    std::string name(reader.text());
    known.emplace(std::move(name), reader.listing());
  }
  return known;
} catch (const Error&) {
  return {};
}

// Returns why it cannot be written, or "".
std::string write_cache(const fs::path& file, const std::string& folder,
                        const std::vector<std::string>& classes,
                        const std::vector<FolderListing>& listings) try {
  Writer writer;
  writer.bytes() = kMagic;
  writer.text(folder);
  writer.number(uint64_t(std::ranges::count_if(listings, &FolderListing::settled)));
  for (size_t c = 0; c < classes.size(); ++c)
    if (listings[c].settled) writer.text(classes[c]), writer.listing(listings[c]);
  writer.number(hash_of(writer.bytes()));
  fs::create_directories(file.parent_path());
  AtomicFile out(file);
  out.write(writer.bytes());
  out.commit_unsynced();
  return "";
} catch (const std::exception& e) {
  return fmt::format("{}; --no-listing-cache does without", e.what());
}

}  // namespace

std::string listing_cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache && *cache == '/') return std::string(cache) + "/sgformer";
  const char* home = std::getenv("HOME");
  return home && *home == '/' ? std::string(home) + "/.cache/sgformer" : "";
}

ClassListings list_classes_of(const std::string& folder, const std::vector<std::string>& classes,
                              const std::string& cache, size_t least) {
  std::error_code error;
  const std::string place = fs::canonical(folder, error).string();
  fs::path file;
  if (!cache.empty() && !error) file = fs::path(cache) / ("listing-" + hex(hash_of(place)));
  Known known = file.empty() ? Known() : read_cache(file, place);

  ClassListings result;
  result.listings.resize(classes.size());
  std::atomic<bool> is_new = false;
  each_by_threads(kWaitingThreads, classes.size(), [&](size_t c) {
    const std::string path = folder + "/" + classes[c];
    FolderListing& listing = result.listings[c];
    if (const auto found = known.find(classes[c]);
        found != known.end() && unchanged(path, found->second)) {
      listing = std::move(found->second);
    } else {
      listing = list_images(path);
      if (listing.settled) is_new = true;
    }
  });
  size_t images = 0;
  for (const FolderListing& listing : result.listings) images += listing.images.size();
  if (is_new && !file.empty() && images >= least)
    result.remark = write_cache(file, place, classes, result.listings);
  return result;
}

}  // namespace sg::data
