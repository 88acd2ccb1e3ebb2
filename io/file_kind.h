// The kind of a file of weights, found from its contents; its name does not matter.
#pragma once
#include <filesystem>
#include <string_view>

#include "io/file.h"

namespace sg {

constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes, as the format's own library

enum class FileKind {
  safetensors,
  torch_zip,     // torch.save since PyTorch 1.6
  torch_stream,  // torch.save before, and with _use_new_zipfile_serialization=False
};

std::string_view name_of(FileKind kind);

// By the first bytes: whether the rest is whole is for the reader of that kind to say. Of any other
// kind, the error (of the file's code) says what it looks like and what to do.
FileKind kind_of(const InputFile& file);
FileKind kind_of(const std::filesystem::path& path);  // errors are ExitCode::checkpoint

}  // namespace sg
