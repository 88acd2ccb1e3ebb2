// A confusion matrix as a file: an image, or its counts.
#pragma once
#include <filesystem>

#include "core/findings.h"
#include "tools/common/output_file.h"

namespace sg::tools {

// Before anything is computed: throws ExitCode::usage on another ending than .png and .csv, or
// where a file is there that is no such matrix (tools/common/output_file.h).
void check_confusion_file(const std::filesystem::path& path, const InputFiles& read);

// PNG: report/matrix_image.h. CSV: a row per name, a column per name.
void write_confusion(const std::filesystem::path& path, const Matrix& matrix);

}  // namespace sg::tools
