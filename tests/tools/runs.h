// Training runs of the programs, in folders of their own.
#pragma once
#include "tests/tools/programs.h"

namespace sg::test {

// The IDX files of an MNIST-like set of `training` and `validation` images of bars.
void write_idx(const std::filesystem::path& folder, int64_t training, int64_t validation);
// train/ and val/ with a sub-folder per class, PPM.
void write_folders(const std::filesystem::path& folder, int64_t training, int64_t validation);

// "sgtrain --data ... --output ..." with the flags of a run that takes a second.
std::string sgtrain(const std::filesystem::path& data, const std::filesystem::path& output,
                    const std::string& more = "");

// The program in the background; standard error goes to a file, standard output nowhere.
pid_t start_program(const std::string& command, const std::filesystem::path& err = "/dev/null",
                    const std::vector<std::string>& environment = {});
// Its exit code; 128 + n after signal n.
int finish(pid_t child);
// Until the file contains the text at or after `from`; false after a minute.
bool wait_for_text(const std::filesystem::path& file, const std::string& text, size_t from = 0);

// Weights, moments and EMA of a run's last checkpoint.
std::vector<std::vector<float>> last_tensors(const std::filesystem::path& output);
// summary.csv, and the losses of metrics.jsonl.
std::string numbers(const std::filesystem::path& output);

}  // namespace sg::test
