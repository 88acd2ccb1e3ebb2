// What a test needs and a machine may lack: golden files, a GPU, the right to mount a disk. A case
// that lacks it says skip() and returns; then the test program, where nothing failed, ends with
// kSkipExitCode, and CTest counts its file as skipped, not as passed.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "core/device.h"

namespace sg::test {

constexpr int kSkipExitCode = 77;

// Marks the running case as skipped.
void skip(const std::string& reason);
// "case: reason", in order; a case may say it several times.
const std::vector<std::string>& skipped();

// shared_folder()/<relative>; where it is not there, an empty path, and the case is skipped.
std::filesystem::path shared(const std::string& relative);

constexpr Device kCuda{DeviceType::cuda, 0};
// Whether kCuda can be used, a GPU or a stand-in for one; where it cannot, the case is skipped.
bool have_cuda();
// Whether kCuda is a stand-in: slow, and able to do what faults.h has.
bool emulated();
// For cases that are about a stand-in, or that only a GPU can run: else they are skipped.
bool have_emulation();
bool have_gpu();

}  // namespace sg::test
