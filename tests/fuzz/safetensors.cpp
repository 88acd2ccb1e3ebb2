// safetensors: the header and every tensor, as weights and as a checkpoint.
#include "io/safetensors.h"

#include "io/checkpoint.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const sg::test::MemoryFile file({data, size});
  sg::test::value_or_error(sg::ExitCode::checkpoint, [&] {
    const auto tensors = sg::Safetensors::open(file.path());
    for (const std::string& name : tensors.names()) tensors.tensor(name);
  });
  sg::test::value_or_error(sg::ExitCode::checkpoint, [&] { sg::load_checkpoint(file.path()); });
  return 0;
}
