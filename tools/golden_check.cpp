// golden_check: compares this implementation with files of golden numbers.
#include <fmt/format.h>

#include <algorithm>

#include "tools/common/cli.h"
#include "tools/golden/golden.h"
#include "tools/golden/golden_images.h"

namespace fs = std::filesystem;

namespace {

// Damaged ones too: which they were meant to be is not known, and their check says what is wrong.
bool may_be_golden(const fs::path& file) try {
  return sg::golden::is_golden(file) || sg::tools::is_golden_images(file);
} catch (const sg::Error&) {
  return true;
}

// Golden files under a path, of any kind, in order of name; a file that is named is taken as it is.
std::vector<fs::path> collect(const fs::path& path) {
  if (!fs::exists(path)) sg::fail(sg::ExitCode::usage, "{}: no such file or folder", path.string());
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file() && may_be_golden(entry.path())) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  if (files.empty())
    sg::fail(
        sg::ExitCode::usage,
        "{}: no golden file (.safetensors with the metadata of one, .json with its module) in it",
        path.string());
  return files;
}

// One line; one more for each image that differs, and one that names operations unknown here.
void print(const fs::path& file, const sg::tools::ImageCheck& r) {
  fmt::print("{} {} ({}): {} images equal, {} wrong, {} not checked\n",
             r.passed() ? "ok  " : "FAIL", file.string(), r.kind, r.equal, r.wrong.size(),
             r.not_checked.size());
  for (const std::string& wrong : r.wrong) fmt::print("    {}\n", wrong);
  if (!r.not_checked.empty())
    fmt::print("    unknown operations: {}\n", fmt::join(r.not_checked, ", "));
}

void print(const fs::path& file, const sg::golden::Result& r, bool verbose) {
  fmt::print("{} {} ({}):", r.passed() ? "ok  " : "FAIL", file.string(), r.module);
  const size_t shown = verbose ? r.rows.size() : std::min<size_t>(2, r.rows.size());
  for (size_t i = 0; i < shown; ++i) {
    const auto& row = r.rows[i];
    fmt::print("{}{} {:.1e} of {:.1e}",
               verbose ? "\n    "
               : i     ? "; "
                       : " ",
               row.tensor, row.error.whole, row.bound);
    if (row.error.row_factor > 1)  // else there is one row
      fmt::print(", worst row {:.1e} of {:.1e}", row.error.worst_row,
                 row.bound * row.error.row_factor);
  }
  fmt::print("\n");
}

}  // namespace

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Compares SG-Former with files of golden numbers: a line per file. 'ok' agrees; 'FAIL' "
        "does "
        "not, or cannot be read; '?' is not checked, as it is of a module that this program does "
        "not have. The last line counts them. The exit code is 0 where all are ok, and 1 where any "
        "other is among them, so 1 with '0 failed' means: nothing is wrong, not all was checked.");
    std::vector<std::string> paths;
    std::string dtype, device = "auto";
    bool verbose = false;
    app.add_option("path", paths, "golden files, or folders of them")->required();
    app.add_option("--dtype", dtype,
                   "f64 (cpu), f32 or bf16; below f64 with the ranking of tokens given; "
                   "default: f64 on cpu, f32 on cuda");
    app.add_option("--device", device, sg::kDeviceHelp)->capture_default_str();
    sg::Bf16Emulation emulation;
    sg::tools::add_emulation_flag(app, emulation);
    app.add_flag("--verbose", verbose, "an error a tensor");
    sg::tools::parse(app, argc, argv);

    sg::Compute compute = sg::parse_usable_device(device);
    if (dtype.empty()) dtype = compute.device.type == sg::DeviceType::cpu ? "f64" : "f32";
    if (dtype == "f64")
      compute.dtype = sg::Dtype::f64;
    else
      compute = sg::parse_compute(device, dtype, emulation);
    sg::tools::announce(compute);

    int passed = 0, failed = 0, unknown = 0;
    for (const std::string& path : paths)
      for (const fs::path& file : collect(path)) try {
          if (sg::tools::is_golden_images(file)) {
            const auto r = sg::tools::check_golden_images(file);
            ++(r.passed() ? passed : failed);
            print(file, r);
            continue;
          }
          const auto r = sg::golden::check_golden(file, compute.dtype, compute.device);
          if (r.checked()) {
            ++(r.passed() ? passed : failed);
            print(file, r, verbose);
          } else {
            ++unknown;
            fmt::print("?    {} ({}): not checked, of an unknown kind\n", file.string(),
                       r.module.empty() ? "no module named" : r.module);
          }
        } catch (const sg::Error& e) {
          if (e.code() == sg::ExitCode::usage) throw;  // of the flags, not of the file
          ++failed;
          fmt::print("FAIL {}\n", e.what());
        }
    fmt::print("{} passed, {} failed, {} not checked\n", passed, failed, unknown);
    return failed + unknown ? sg::ExitCode::failure : sg::ExitCode::ok;
  });
}
