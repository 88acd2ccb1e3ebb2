// Files of torch.save: zip archive or stream, pickles, and every tensor.
#include "io/pth.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const sg::test::MemoryFile file({data, size});
  sg::test::value_or_error(sg::ExitCode::checkpoint, [&] {
    const auto tensors = sg::Pth::open(file.path());
    for (const std::string& name : tensors.names()) tensors.tensor(name);
  });
  return 0;
}
