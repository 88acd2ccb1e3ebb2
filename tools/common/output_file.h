// A program writes over a file only where an earlier run of it wrote that file.
#pragma once
#include <filesystem>
#include <string_view>
#include <vector>

namespace sg::tools {

// Whether a file that begins so was written here.
using IsOwn = bool (*)(std::string_view begin);

// Before anything is computed: throws ExitCode::usage where `path` is one of the files that the
// program reads, by whatever name, where something else is there that `is_own` does not know, or
// where its folder is not there.
void check_output(const std::filesystem::path& path, const std::vector<std::filesystem::path>& read,
                  IsOwn is_own);

}  // namespace sg::tools
