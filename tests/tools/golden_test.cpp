#include "tools/golden/golden.h"

#include <doctest/doctest.h>

#include "core/backend.h"
#include "core/error.h"
#include "tests/support/shared.h"

using namespace sg;
using namespace sg::sgformer;
namespace fs = std::filesystem;

namespace {

void check_folder(const char* relative, Dtype dtype, Device device = {}) {
  const fs::path folder = test::shared(relative);
  if (folder.empty()) return;
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const GoldenResult r = check_golden(entry.path(), dtype, device);
    CAPTURE(entry.path().string());
    REQUIRE(!r.rows.empty());
    CAPTURE(r.rows[0].tensor);
    CHECK(r.rows[0].error <= r.bound);
    ++files;
  }
  CHECK(files > 0);
}

}  // namespace

TEST_CASE("modules of the published model in f64") { check_folder("golden/modules", Dtype::f64); }
TEST_CASE("modules of the published model in f32") { check_folder("golden/modules", Dtype::f32); }
TEST_CASE("modules of the published model on cuda, in f32 and bf16") {
  const Device cuda{DeviceType::cuda, 0};
  if (!available(cuda)) return;
  check_folder("golden/modules", Dtype::f32, cuda);
  check_folder("golden/modules", Dtype::bf16, cuda);
}
TEST_CASE("whole models in f64") { check_folder("golden/models", Dtype::f64); }
TEST_CASE("whole models at other image sizes in f64") {
  check_folder("golden/any_size", Dtype::f64);
}

TEST_CASE("whole models are refused in f32, and any file in what a device does not have") {
  const fs::path folder = test::shared("golden");
  if (folder.empty()) return;
  CHECK_THROWS_AS(check_golden(folder / "models/model_tiny.safetensors", Dtype::f32), Error);
  CHECK_THROWS_AS(check_golden(folder / "modules/mlp.safetensors", Dtype::bf16), Error);
  CHECK(!is_golden(folder / "augment/augment.safetensors"));
}

TEST_CASE("the formula of golden weights") {
  // FNV-1a of the empty key is the offset basis; u is a multiple of 2^-23 in [-1, 1).
  for (const float u : formula("", 100)) {
    CHECK(u >= -1);
    CHECK(u < 1);
    CHECK(u * 0x1p23f == float(int(u * 0x1p23f)));
  }
  CHECK(formula("a", 3) == formula("a", 3));
  CHECK(formula("a", 3) != formula("b", 3));
}
