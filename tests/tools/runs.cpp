#include "tests/tools/runs.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <sstream>
#include <thread>

#include "io/checkpoint.h"
#include "tests/support/bars.h"

namespace sg::test {
namespace fs = std::filesystem;
namespace {

std::string big_endian(uint32_t v) { return {char(v >> 24), char(v >> 16), char(v >> 8), char(v)}; }

void write_idx_pair(const fs::path& folder, const std::string& start, int64_t count,
                    uint64_t seed) {
  const auto n = uint32_t(count);
  const std::vector<uint8_t> pixels = bars(count, seed);
  std::string images = big_endian(0x803) + big_endian(n) + big_endian(kBarSide) +
                       big_endian(kBarSide) + std::string(pixels.begin(), pixels.end());
  std::string labels = big_endian(0x801) + big_endian(n);
  for (int64_t i = 0; i < count; ++i) labels += char(i % kBarClasses);
  put(folder / (start + "-images-idx3-ubyte"), images);
  put(folder / (start + "-labels-idx1-ubyte"), labels);
}

void write_split(const fs::path& folder, int64_t count, uint64_t seed) {
  const std::vector<uint8_t> pixels = bars(count, seed);
  for (int64_t i = 0; i < count; ++i) {
    const fs::path of_class = folder / fmt::format("bar{}", i % kBarClasses);
    fs::create_directories(of_class);
    std::string file = fmt::format("P6\n{} {}\n255\n", kBarSide, kBarSide);
    for (int p = 0; p < kBarPixels; ++p) file.append(3, char(pixels[size_t(i * kBarPixels + p)]));
    put(of_class / fmt::format("{:04}.ppm", i), file);
  }
}

}  // namespace

void write_idx(const fs::path& folder, int64_t training, int64_t validation) {
  fs::create_directories(folder);
  write_idx_pair(folder, "train", training, 1), write_idx_pair(folder, "t10k", validation, 2);
}

void write_folders(const fs::path& folder, int64_t training, int64_t validation) {
  write_split(folder / "train", training, 1), write_split(folder / "val", validation, 2);
}

std::string sgtrain(const fs::path& data, const fs::path& output, const std::string& more) {
  return fmt::format(
      "sgtrain --device cpu --data {} --output {} --model sgformer_nano -b 8 --epochs 2 "
      "--warmup-epochs 0 "
      "--cooldown-epochs 0 --lr 1e-3 --model-ema-decay 0.5 --threads 1 --workers 1 --log-interval "
      "1 {}",
      data.string(), output.string(), more);
}

pid_t start_program(const std::string& command, const fs::path& err,
                    const std::vector<std::string>& environment) {
  const std::string line = fmt::format("exec env {} {} >/dev/null 2>{}",
                                       fmt::join(environment, " "), program(command), err.string());
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  return child;
}

int finish(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool wait_for_text(const fs::path& file, const std::string& text, size_t from) {
  for (int i = 0; i < 6000; ++i) {
    std::error_code absent;
    if (fs::exists(file, absent) && read_file(file).find(text, from) != std::string::npos)
      return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

std::vector<std::vector<float>> last_tensors(const fs::path& output) {
  std::vector<std::vector<float>> result;
  for (const auto& [name, tensor] :
       load_checkpoint(output / "checkpoints/last.safetensors").tensors)
    result.push_back(to_vector<float>(tensor));
  return result;
}

std::string numbers(const fs::path& output) {
  std::string all = read_file(output / "summary.csv");
  std::istringstream lines(read_file(output / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto row = nlohmann::json::parse(line);
    if (row.contains("loss")) all += fmt::format("{} {}\n", row["step"].dump(), row["loss"].dump());
  }
  return all;
}

}  // namespace sg::test
