// Runs a fuzz target without libFuzzer, as a test: every file of its corpus whole, cut short, and
// with bytes changed; the same ones every time.
//   fuzz_NAME [--verbose] FILE_OR_FOLDER... [--shared FILE_OR_FOLDER...]
// Those after --shared lie in the shared folder of the tests; where one is not there, the exit code
// is 77: CTest counts that as skipped.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "io/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/paths.h"

namespace {
namespace fs = std::filesystem;

constexpr size_t kRuns = 20'000;         // of all files together, or
constexpr size_t kLeast = 8;             // of a file, if that is more
constexpr size_t kMost = 400;            // of a file
constexpr size_t kLargest = 256 * 1024;  // larger files would take long

std::vector<fs::path> files_of(const std::vector<fs::path>& arguments) {
  std::vector<fs::path> files;
  for (const fs::path& argument : arguments) {
    if (fs::is_regular_file(argument)) files.push_back(argument);
    if (!fs::is_directory(argument)) continue;
    for (const auto& item : fs::recursive_directory_iterator(argument))
      if (item.is_regular_file() && item.file_size() <= kLargest) files.push_back(item.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void change(std::string& bytes, std::mt19937& random) {
  if (bytes.empty()) return;
  const auto place = [&] { return random() % bytes.size(); };
  switch (random() % 3) {
    case 0:
      return bytes.resize(place());
    case 1:  // a part twice
      return (void)bytes.insert(place(), bytes.substr(place(), 1 + random() % 16));
    default:
      for (size_t n = 1 + random() % 4; n > 0; --n) bytes[place()] ^= char(1 << random() % 8);
  }
}

void run(const std::string& bytes) {
  // A block of its own and of just this size: reading past the end is seen by a sanitizer.
  const std::vector<uint8_t> exact(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool verbose = std::erase(arguments, "--verbose") > 0;
  bool in_shared = false, absent = false;
  std::vector<fs::path> paths;
  for (const std::string& argument : arguments) {
    if (argument == "--shared") {
      in_shared = true;
      continue;
    }
    paths.push_back(in_shared ? sg::test::shared_folder() / argument : fs::path(argument));
    if (fs::exists(paths.back())) continue;
    std::printf("%s%s is not there\n", in_shared ? "SKIPPED: " : "", paths.back().c_str());
    if (!in_shared) return 2;
    absent = true;
  }
  const std::vector<fs::path> files = files_of(paths);
  if (files.empty()) {
    std::fprintf(stderr, "no files to run; usage: %s [--verbose] FILE_OR_FOLDER...\n", argv[0]);
    return 2;
  }
  const size_t runs = std::clamp(kRuns / files.size(), kLeast, kMost);
  for (const fs::path& file : files) {
    const std::string whole = sg::read_file(file);
    std::mt19937 random(1);
    run(whole);
    for (size_t i = 0; i < runs; ++i) {
      if (verbose) std::printf("%s, change %zu\n", file.c_str(), i), std::fflush(stdout);
      std::string bytes = whole;
      change(bytes, random);
      run(bytes);
    }
  }
  std::printf("%zu files, each whole and changed %zu times\n", files.size(), runs);
  return absent ? 77 : 0;
}
