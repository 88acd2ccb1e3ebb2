#include "io/tar.h"

#include <unistd.h>

#include "tests/support/files.h"

using namespace sg;
using test::contains, test::put;
namespace fs = std::filesystem;

namespace {

struct Read {
  std::vector<std::string> names, bytes;
};

Read read_all(const fs::path& path) {
  const InputFile file(path, ExitCode::data);
  TarReader tar(file);
  Read all;
  while (const auto entry = tar.next()) {
    all.names.push_back(entry->name);
    all.bytes.push_back(tar.read(*entry));
  }
  return all;
}

std::string error_of(const std::string& bytes) {
  const test::TemporaryFolder dir;
  put(dir / "a.tar", bytes);
  const std::string error = test::error_of(ExitCode::data, [&] { read_all(dir / "a.tar"); });
  CHECK(contains(error, (dir / "a.tar").string() + ": at byte "));
  return error;
}

std::string archive(const std::vector<std::pair<std::string, std::string>>& files) {
  std::string all;
  for (const auto& [name, bytes] : files)
    all += tar_header(name, bytes.size()) + bytes + tar_padding(bytes.size());
  return all + tar_end();
}

// A header with one field changed and its checksum made anew.
std::string changed(std::string block, size_t at, const std::string& field) {
  block.replace(at, field.size(), field);
  block.replace(148, 8, "        ");
  int sum = 0;
  for (const char c : block.substr(0, kTarBlock)) sum += uint8_t(c);
  return block.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
}

}  // namespace

TEST_CASE("tar: every format that GNU tar writes, with long names and odd bytes in them") {
  const test::TemporaryFolder dir;
  const std::string deep = "folder/" + std::string(90, 'd') + "/" + std::string(120, 'n') + ".jpg";
  fs::create_directories((dir / "in" / deep).parent_path());
  put(dir / "in/a.cls", "7");
  put(dir / "in/empty.jpg", "");
  put(dir / ("in/" + deep), std::string(1000, 'x'));
  put(dir / "in/caf\xe9.jpg", std::string(512, 'y'));
  for (const char* format : {"gnu", "pax", "ustar", "oldgnu", "v7"}) {
    CAPTURE(format);
    const bool short_names = format == std::string("ustar") || format == std::string("v7");
    const std::string command = fmt::format("tar --format={} --sort=name {} -cf '{}' -C '{}' .",
                                            format, short_names ? "--exclude=folder" : "",
                                            (dir / "a.tar").string(), (dir / "in").string());
    REQUIRE(std::system(command.c_str()) == 0);
    const Read all = read_all(dir / "a.tar");
    std::vector<std::string> names{"a.cls", "caf\xe9.jpg", "empty.jpg", deep};
    std::vector<std::string> bytes{"7", std::string(512, 'y'), "", std::string(1000, 'x')};
    if (short_names) names.pop_back(), bytes.pop_back();
    CHECK(all.names == names);
    CHECK(all.bytes == bytes);
  }
  // A prefix, which ustar has for names up to 255 bytes.
  const std::string prefixed = "in/" + std::string(90, 'p') + "/" + std::string(90, 'q');
  fs::create_directories((dir / prefixed).parent_path());
  put(dir / prefixed, "z");
  REQUIRE(std::system(fmt::format("tar --format=ustar -cf '{}' -C '{}' '{}'",
                                  (dir / "a.tar").string(), dir.path().string(), prefixed)
                          .c_str()) == 0);
  CHECK(read_all(dir / "a.tar").names == std::vector{prefixed});
}

TEST_CASE("tar: what we write is read by GNU tar, and by us") {
  const test::TemporaryFolder dir;
  const std::string name = std::string(95, 'n') + "-long.jpg";
  for (const size_t length : {size_t(100), size_t(101), name.size(), size_t(990)}) {
    const std::string padded =
        length < name.size() ? name.substr(0, length) : std::string(length - 4, 'm') + ".jpg";
    // Longer than a file system takes: it has folders in it.
    std::string path = padded;
    for (size_t i = 200; i < path.size(); i += 200) path[i] = '/';
    put(dir / "a.tar", archive({{path, "image"}, {"b.cls", ""}, {"c", std::string(512, 'c')}}));
    CHECK(read_all(dir / "a.tar").names == std::vector<std::string>{path, "b.cls", "c"});
    fs::remove_all(dir / "out");
    fs::create_directories(dir / "out");
    REQUIRE(std::system(fmt::format("tar -xf '{}' -C '{}' 2>'{}'", (dir / "a.tar").string(),
                                    (dir / "out").string(), (dir / "err").string())
                            .c_str()) == 0);
    CHECK(read_file(dir / "err").empty());
    CHECK(read_file(dir / "out" / path) == "image");
    CHECK(read_file(dir / "out/c") == std::string(512, 'c'));
  }
}

TEST_CASE("tar: files beyond 8 GB, their size in base 256 or in a pax record") {
  const test::TemporaryFolder dir;
  const uint64_t large = (uint64_t{9} << 30) + 5;
  std::string base256 = tar_header("large", 1);
  std::string field("\x80", 1);
  for (int shift = 80; shift >= 0; shift -= 8)
    field += shift >= 64 ? '\0' : char(large >> shift & 0xFF);
  base256 = changed(base256, 124, field);
  const std::string record = "19 size=9663676421\n";
  const std::string pax = changed(tar_header("pax", record.size()), 156, "x") + record +
                          tar_padding(record.size()) + tar_header("large", 1);
  for (const std::string& header : {base256, pax}) {
    put(dir / "a.tar", header);
    // The bytes are a hole in the file.
    const uint64_t end = header.size() + (large + kTarBlock - 1) / kTarBlock * kTarBlock;
    fs::resize_file(dir / "a.tar", end);
    std::ofstream(dir / "a.tar", std::ios::binary | std::ios::app)
        << tar_header("next", 1) << "n" << tar_padding(1) << tar_end();
    const InputFile file(dir / "a.tar", ExitCode::data);
    TarReader tar(file);
    const auto first = tar.next();
    REQUIRE(first);
    CHECK(first->size == large);
    CHECK(contains(test::error_of(ExitCode::data, [&] { tar.read(*first); }), "at most"));
    const auto second = tar.next();
    REQUIRE(second);
    CHECK(second->name == "next");
    CHECK(tar.read(*second) == "n");
    CHECK_FALSE(tar.next());
  }
}

TEST_CASE("tar: cut off anywhere, it is an error that names the byte") {
  const std::string whole = archive({{"a.jpg", std::string(700, 'a')}, {"a.cls", "1"}});
  const size_t end = whole.size() - 2 * kTarBlock;
  for (size_t n = 0; n < end; n += n % kTarBlock == 511 ? 1 : 73) {
    CAPTURE(n);
    error_of(whole.substr(0, n));
  }
  CHECK(contains(error_of(whole.substr(0, end)), "without an end mark"));
  CHECK(contains(error_of(whole.substr(0, 600)), "'a.jpg' has 700 bytes"));
  CHECK(contains(error_of(""), "expected a tar archive"));
  const test::TemporaryFolder dir;
  put(dir / "a.tar", whole.substr(0, end + kTarBlock));  // one block of zeros is an end
  CHECK(read_all(dir / "a.tar").names.size() == 2);
}

TEST_CASE("tar: what is no plain archive of files is refused") {
  const std::string end = tar_end(), file = tar_header("a.jpg", 0);
  CHECK(contains(error_of(std::string(2000, 'x')), "no tar archive"));
  std::string flipped = file;
  flipped[3] ^= 1;
  CHECK(contains(error_of(flipped + end), "checksum"));
  CHECK(contains(error_of(archive({{"a", "1"}}) + archive({{"b", "2"}})), "behind the end mark"));
  for (const auto& [type, words] : {std::pair{"1", "a hard link"},
                                    {"2", "a symbolic link"},
                                    {"3", "a device"},
                                    {"6", "a named pipe"},
                                    {"S", "a sparse file"},
                                    {"Z", "type 'Z'"}})
    CHECK(contains(error_of(changed(file, 156, type) + end), words));
  const std::string sparse = "22 GNU.sparse.major=1\n";
  CHECK(contains(error_of(changed(tar_header("pax", sparse.size()), 156, "x") + sparse +
                          tar_padding(sparse.size()) + file + end),
                 "sparse"));
  for (const char* records : {"x", "99 path=a\n", "9 pathaa\n", "3 path=a\n", "11 size=-1x\n"}) {
    CAPTURE(records);
    const std::string text = records;
    CHECK(contains(error_of(changed(tar_header("pax", text.size()), 156, "x") + text +
                            tar_padding(text.size()) + file + end),
                   "pax"));
  }
  for (const char* name : {"/etc/passwd", "../a", "a/../../b", "a/.."})
    CHECK(contains(error_of(tar_header(name, 0) + end), "refused"));
  CHECK(contains(error_of(changed(file, 124, "9x") + end), "size is no number"));
  CHECK(contains(error_of(changed(file, 124, std::string(12, '\xff')) + end), "no number"));
  // A size that claims far more than is there, and one that would overflow.
  std::string huge("\x80", 1);
  huge += std::string(3, '\0') + std::string(8, '\xff');
  CHECK(contains(error_of(changed(file, 124, huge) + end), "ends after"));
  CHECK(contains(
      error_of(changed(tar_header("x", 2 << 20), 156, "L") + std::string(2 << 20, 'x') + end),
      "at most"));
}
