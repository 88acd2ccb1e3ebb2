#include "tools/common/confusion_file.h"

#include "core/error.h"
#include "data/png_write.h"
#include "io/file.h"
#include "report/matrix_image.h"
#include "tools/common/images.h"

namespace sg::tools {
namespace {

constexpr std::string_view kCsvBegin = "is \\ taken for,";

std::string csv(const Matrix& matrix) {
  std::string text = fmt::format("{} \\ {}", matrix.row_axis, matrix.column_axis);
  for (const std::string& name : matrix.names) text += "," + csv_field(name);
  const size_t n = matrix.names.size();
  for (size_t row = 0; row < n; ++row) {
    text += "\n" + csv_field(matrix.names[row]);
    for (size_t c = 0; c < n; ++c) text += "," + std::to_string(matrix.counts[row * n + c]);
  }
  return text + "\n";
}

}  // namespace

void check_confusion_file(const std::filesystem::path& path, const InputFiles& read) {
  if (path.extension() == ".csv")
    return check_output(path, read,
                        [](std::string_view begin) { return begin.starts_with(kCsvBegin); });
  if (path.extension() != ".png")
    fail(ExitCode::usage, "--confusion: expected a name in .png or .csv, found '{}'",
         path.string());
  check_output(path, read, data::is_own_png);
}

void write_confusion(const std::filesystem::path& path, const Matrix& matrix) {
  if (path.extension() == ".png") return write_png(path, report::matrix_image(matrix));
  AtomicFile file(path);
  const std::string text = csv(matrix);
  file.write(text.data(), text.size());
  file.commit_unsynced();
}

}  // namespace sg::tools
