#include "tools/golden/golden_losses.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "tests/support/skip.h"
#include "tools/golden/golden.h"

using namespace sg;
using namespace sg::golden;

TEST_CASE("golden: the segmentation loss, its parts and gradients") {
  const auto folder = test::shared("golden/dense/losses");
  if (folder.empty()) return;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!entry.path().filename().string().starts_with("segmentation_loss")) continue;
    CAPTURE(entry.path().string());
    ++files;
    std::vector<std::pair<Dtype, Device>> settings{{Dtype::f64, {}}, {Dtype::f32, {}}};
    if (test::have_cuda())
      for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) settings.emplace_back(dtype, test::kCuda);
    for (const auto& [dtype, device] : settings) {
      CAPTURE(name_of(dtype));
      const Result r = check_golden(entry.path(), dtype, device);
      REQUIRE(r.rows.size() == 5);
      CAPTURE(r.rows[0].tensor);
      CAPTURE(r.rows[0].error.whole);
      CHECK(r.passed());
    }
  }
  CHECK(files > 0);
}
