// Tar archives: every file's name and bytes.
#include "io/tar.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const sg::test::MemoryFile bytes({data, size});
  sg::test::value_or_error(sg::ExitCode::data, [&] {
    const sg::InputFile file(bytes.path(), sg::ExitCode::data);
    sg::TarReader tar(file);
    while (const auto entry = tar.next()) tar.read(*entry);
  });
  return 0;
}
