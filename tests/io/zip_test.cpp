#include "io/zip.h"

#include <cstring>

#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;
namespace fs = std::filesystem;

namespace {

struct File {
  std::string name, bytes;
  uint32_t crc = 0;
};

void number(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += char(value >> (8 * i));
}

// A stored archive. `local` may move the place that the directory gives for an entry.
std::string zip_of(const std::vector<File>& files, int64_t local_shift = 0, uint32_t flags = 0) {
  std::string out, directory;
  for (const File& f : files) {
    std::string common;
    number(common, flags, 2), number(common, 0, 2), number(common, 0, 4), number(common, f.crc, 4);
    number(common, f.bytes.size(), 4), number(common, f.bytes.size(), 4);
    number(common, f.name.size(), 2), number(common, 0, 2);
    const int64_t at = int64_t(out.size()) - (&f == &files[0] ? 0 : local_shift);
    number(out, 0x04034b50, 4), number(out, 20, 2);
    out += common + f.name + f.bytes;
    number(directory, 0x02014b50, 4), number(directory, 20, 2), number(directory, 20, 2);
    directory += common;
    number(directory, 0, 2), number(directory, 0, 2), number(directory, 0, 2);
    number(directory, 0, 4), number(directory, uint64_t(at), 4);
    directory += f.name;
  }
  const size_t start = out.size();
  out += directory;
  number(out, 0x06054b50, 4), number(out, 0, 4);
  number(out, files.size(), 2), number(out, files.size(), 2);
  number(out, directory.size(), 4), number(out, start, 4), number(out, 0, 2);
  return out;
}

std::string error_for(const std::string& content) {
  const TemporaryFolder folder;
  put(folder / "bad.zip", content);
  const InputFile file(folder / "bad.zip", ExitCode::checkpoint);
  return error_of(ExitCode::checkpoint, [&] {
    const Zip zip(file);
    for (const auto& [name, entry] : zip.entries()) zip.read(name);
  });
}

}  // namespace

TEST_CASE("stored entries are read") {
  const TemporaryFolder folder;
  put(folder / "a.zip", zip_of({{"d/a", "123456789", 0xcbf43926}, {"empty", "", 0}}));
  const InputFile file(folder / "a.zip");
  const Zip zip(file);
  CHECK(zip.entries().size() == 2);
  CHECK(zip.read("d/a") == "123456789");
  CHECK(zip.read("empty").empty());
  CHECK_THROWS_AS(zip.read("b"), Error);
}

TEST_CASE("dangerous archives are refused") {
  const File good{"a", "123456789", 0xcbf43926};
  CHECK(contains(error_for(zip_of({{"a", "123456789", 1}})), "expected CRC-32 00000001"));
  for (const char* name : {"", "/a", "..", "../a", "a/..", "a/../b", "a\\b"})
    CHECK(contains(error_for(zip_of({{name, "", 0}})), "not allowed"));
  CHECK(contains(error_for(zip_of({{std::string("a\0b", 3), "", 0}})), "not allowed"));
  CHECK(contains(error_for(zip_of({good}, 0, 1)), "encrypted"));
  CHECK(contains(error_for(zip_of({good, good})), "occurs twice"));
  CHECK(contains(error_for(zip_of({good, good}, 40)), "occurs twice"));
  // Two names for the same bytes: the second local header is the first.
  CHECK(contains(error_for(zip_of({good, {"b", "", 0}}, 40)), "local header"));
  const std::string inner = zip_of({good});
  CHECK(contains(error_for(zip_of({{"a", inner.substr(0, 40), 0}, {"a2", "", 0}}, 5)), "local"));
  CHECK(contains(error_for(zip_of({good}) + "junk"), "no end record"));
  CHECK(contains(error_for("junk" + zip_of({good})), "directory"));
}

TEST_CASE("an entry over another is refused") {
  // The bytes of "outer" hold a whole local header of "b", which the directory lists too.
  std::string local;
  number(local, 0x04034b50, 4), number(local, 20, 2), number(local, 0, 8), number(local, 0, 4);
  number(local, 0, 8), number(local, 1, 2), number(local, 0, 2);
  local += "b";
  REQUIRE(local.size() == 31);
  const std::string file = zip_of({{"o", local, 0}, {"b", "", 0}}, 31);
  CHECK(contains(error_for(file), "entries overlap"));
}

TEST_CASE("broken archives from other test suites are an error or are read") {
  const fs::path archives = shared("data/odd/zip");
  if (archives.empty()) return;
  int read = 0, refused = 0;
  for (const auto& item : fs::directory_iterator(archives)) {
    const std::string name = item.path().filename().string();
    CAPTURE(name);
    const InputFile file(item.path(), ExitCode::checkpoint);
    try {
      const Zip zip(file);
      for (const auto& [entry, where] : zip.entries()) zip.read(entry);
      ++read;
      for (const char* bad : {"encrypt-", "duplicate.zip", "multidisk", "deflated", "bogus"})
        CHECK_FALSE((contains(name, bad) && !contains(name, "encrypt-none")));
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::checkpoint);
      CHECK(contains(e.what(), name));
      ++refused;
    }
  }
  MESSAGE(read << " archives read, " << refused << " refused");
  CHECK(read > 0);
  CHECK(refused > 50);
}
