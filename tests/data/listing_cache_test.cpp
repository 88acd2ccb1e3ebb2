#include "data/listing_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <chrono>
#include <thread>

#include "data/dataset.h"
#include "tests/support/environment.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;
using test::contains;
using test::put;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

namespace {

// The images of each class, with a cache for sets of any size.
std::vector<Names> listed(const fs::path& data, const Names& classes, const fs::path& cache) {
  std::vector<Names> all;
  for (const auto& l : list_classes_of(data.string(), classes, cache.string(), 1).listings) {
    all.emplace_back();
    for (size_t i = 0; i < l.images.size(); ++i) all.back().emplace_back(l.images[i]);
  }
  return all;
}

fs::path only_file(const fs::path& folder) {
  const fs::directory_iterator files(folder);
  REQUIRE(std::distance(begin(files), end(files)) == 1);
  return fs::directory_iterator(folder)->path();
}

// Puts names in a cache's file in place of others of their length, so that what comes from it can
// be told from what was listed.
void forge(const fs::path& file, const std::string& from, const std::string& to) {
  std::string bytes = read_file(file);
  for (size_t at = 0; (at = bytes.find(from, at)) != std::string::npos;)
    bytes.replace(at, to.size(), to);
  const uint64_t sum = XXH3_64bits(bytes.data(), bytes.size() - sizeof sum);
  bytes.replace(bytes.size() - sizeof sum, sizeof sum, reinterpret_cast<const char*>(&sum),
                sizeof sum);
  put(file, bytes);
}

}  // namespace

TEST_CASE("a cached listing is used where nothing has changed, and every change is noticed") {
  const test::TemporaryFolder folder;
  const fs::path data = folder / "data", cache = folder / "cache/sgformer";
  const Names classes{"same",    "added",    "removed",  "renamed", "deeper",
                      "new_sub", "lost_sub", "replaced", "set_back"};
  for (const auto& name : classes) {
    fs::create_directories(data / name / "sub");
    put(data / name / "real.png", ""), put(data / name / "sub/b.png", "");
    put(data / name / "note.txt", "");
  }
  fs::create_directories(folder / "other");
  put(folder / "other/c.png", "");
  const Names plain{"real.png", "sub/b.png"}, forged{"fake.png", "sub/b.png"};

  // Folders that have just changed may change again within the grain of their clock.
  CHECK(listed(data, classes, cache) == std::vector<Names>(classes.size(), plain));
  CHECK(!fs::exists(cache));
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  CHECK(listed(data, classes, cache) == std::vector<Names>(classes.size(), plain));
  const fs::path file = only_file(cache);
  forge(file, "real.png", "fake.png");
  CHECK(listed(data, classes, cache) == std::vector<Names>(classes.size(), forged));
  const std::string usable = read_file(file);
  CHECK(listed(data, classes, "") == std::vector<Names>(classes.size(), plain));
  CHECK(list_classes_of(data.string(), classes, cache.string()).listings[0].left_out ==
        LeftOut{{".txt", 1}});

  // A file that is damaged, or cut, or of another folder, version or user.
  for (size_t i = 0; i < usable.size(); i += 97) {
    std::string damaged = usable;
    damaged[i] ^= 4;
    put(file, damaged);
    CHECK(listed(data, classes, cache)[0] == plain);
    put(file, usable.substr(0, i));
    CHECK(listed(data, classes, cache)[0] == plain);
  }
  for (const auto& [from, to] :
       {std::pair{data.string(), (folder / "dat_").string()}, {"SGLIST 1", "SGLIST 0"}}) {
    put(file, usable);
    forge(file, from, to);
    CHECK(listed(data, classes, cache)[0] == plain);
  }
  put(file, usable);
  if (::geteuid() == 0) {
    REQUIRE(::chown(file.c_str(), 1, 1) == 0);
    CHECK(listed(data, classes, cache)[0] == plain);
    put(file, usable);
  }
  CHECK(listed(data, classes, cache)[0] == forged);

  put(data / "added/a.png", "");
  fs::remove(data / "removed/real.png");
  fs::rename(data / "renamed/real.png", data / "renamed/x.png");
  put(data / "deeper/sub/a.png", "");
  fs::create_directory(data / "new_sub/empty");
  fs::remove_all(data / "lost_sub/sub");
  fs::remove_all(data / "replaced");
  fs::create_directory_symlink(folder / "other", data / "replaced");
  struct stat before;
  REQUIRE(::stat((data / "set_back").c_str(), &before) == 0);
  put(data / "set_back/a.png", "");
  const timespec times[2] = {before.st_atim, before.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, (data / "set_back").c_str(), times, 0) == 0);
  const std::vector<Names> expected{forged,
                                    {"a.png", "real.png", "sub/b.png"},
                                    {"sub/b.png"},
                                    {"sub/b.png", "x.png"},
                                    {"real.png", "sub/a.png", "sub/b.png"},
                                    plain,
                                    {"real.png"},
                                    {"c.png"},
                                    {"a.png", "real.png", "sub/b.png"}};
  CHECK(listed(data, classes, cache) == expected);
  CHECK(listed(data, classes, cache) == expected);
  // Classes that come or go need no new cache.
  CHECK(listed(data, {"same"}, cache) == std::vector<Names>{forged});

  // Small sets are not kept, and a set without cache goes on.
  fs::remove(file);
  CHECK(list_classes_of(data.string(), {"same"}, cache.string()).remark.empty());
  CHECK(!fs::exists(file));
  put(folder / "file", "");
  const auto kept = list_classes_of(data.string(), {"same"}, (folder / "file/x").string(), 1);
  CHECK(kept.listings[0].images.size() == 2);
  CHECK(contains(kept.remark, "--no-listing-cache"));
}

TEST_CASE("listing by several threads: the error is that of the first class") {
  const test::TemporaryFolder folder;
  Names classes;
  for (int c = 0; c < 60; ++c) {
    classes.push_back(fmt::format("{:02}", c));
    if (c == 20 || c == 50) continue;
    fs::create_directories(folder / classes.back());
    for (int i = 0; i <= c; ++i) put(folder / classes.back() / fmt::format("{}.png", i), "");
  }
  for (int i = 0; i < 10; ++i)
    CHECK(contains(test::error_of(ExitCode::data,
                                  [&] { list_classes_of(folder.path().string(), classes, ""); }),
                   "/20: cannot be listed"));
  fs::create_directories(folder / "20"), fs::create_directories(folder / "50");
  const auto all = list_classes_of(folder.path().string(), classes, "").listings;
  for (size_t c = 0; c < 60; ++c) CHECK(all[c].images.size() == (c == 20 || c == 50 ? 0 : c + 1));
}

TEST_CASE("where the cache lies") {
  {
    const test::Environment xdg("XDG_CACHE_HOME", "/x/cache"), home("HOME", "/home/me");
    CHECK(listing_cache_folder() == "/x/cache/sgformer");
  }
  const test::Environment xdg("XDG_CACHE_HOME", "relative");  // is to be passed over
  {
    const test::Environment home("HOME", "/home/me");
    CHECK(listing_cache_folder() == "/home/me/.cache/sgformer");
  }
  const test::Environment home("HOME", {});
  CHECK(listing_cache_folder().empty());
}
