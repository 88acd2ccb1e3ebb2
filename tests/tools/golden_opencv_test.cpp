#include "tools/golden/golden_opencv.h"

#include <doctest/doctest.h>

#include "io/safetensors.h"
#include "tests/support/files.h"
#include "tests/tools/programs.h"
#include "tools/golden/golden.h"

using namespace sg;

TEST_CASE("golden images of OpenCV: resizing and photometric distortion, byte for byte") {
  const auto folder = test::shared("golden/dense/resize");
  if (folder.empty()) return;
  for (const auto& [name, cases] : {std::pair{"resize", 50}, {"photometric", 55}}) {
    CAPTURE(name);
    const auto path = folder / (std::string(name) + ".safetensors");
    const golden::Result r = golden::check_golden(path, Dtype::f64);
    CHECK(r.passed());
    CHECK(int(r.rows.size()) >= cases);

    const auto file = Safetensors::open(path);  // one byte wrong
    std::vector<NamedTensor> tensors;
    for (const std::string& tensor : file.names()) {
      tensors.emplace_back(tensor, file.tensor(tensor).clone());
      if (tensor == "case.007") tensors.back().second.data<uint8_t>()[5] ^= 1;
    }
    const test::TemporaryFolder changed;
    write_safetensors(changed / "changed.safetensors", tensors, file.metadata());
    const golden::Result wrong = golden::check_golden(changed / "changed.safetensors", Dtype::f64);
    CHECK(!wrong.passed());
    CHECK(wrong.rows.front().tensor == "case.007");
  }
}
