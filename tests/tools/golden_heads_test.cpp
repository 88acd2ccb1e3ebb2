// Feature pyramid, heads of segmentation and detection, and whole networks of segmentation against
// golden numbers.
#include <doctest/doctest.h>

#include <map>

#include "tests/tools/programs.h"
#include "tools/golden/golden.h"

using namespace sg;
using test::kCuda;
namespace fs = std::filesystem;

namespace {

void check_modules(Dtype dtype, Device device, bool real_channels) {
  const fs::path folder = test::shared("golden/dense/modules");
  if (folder.empty()) return;
  std::map<std::string, int> files{{"fpn", 0},      {"semantic_fpn", 0}, {"upernet", 0},
                                   {"fcn_head", 0}, {"rpn_head", 0},     {"box_head", 0},
                                   {"mask_head", 0}};
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const auto kind =
        std::ranges::find_if(files, [&](const auto& item) { return name.starts_with(item.first); });
    REQUIRE(kind != files.end());
    if (!real_channels && test::contains(name, "real_channels")) continue;
    CAPTURE(name);
    CAPTURE(name_of(dtype));
    const golden::Result r = golden::check_golden(entry.path(), dtype, device);
    REQUIRE(!r.rows.empty());
    CAPTURE(r.rows[0].tensor);
    CHECK(r.rows[0].share_of_bound() <= 1);
    CHECK(r.passed());
    ++kind->second;
  }
  for (const auto& [kind, count] : files) {
    CAPTURE(kind);
    CHECK(count > 0);
  }
}

}  // namespace

TEST_CASE("heads of segmentation and detection, and their pyramid in f64") {
  check_modules(Dtype::f64, Device{}, true);
}
TEST_CASE("heads of segmentation and detection, and their pyramid in f32 and bf16") {
  check_modules(Dtype::f32, Device{}, true);
  check_modules(Dtype::bf16, Device{}, true);
}
TEST_CASE("heads of segmentation and detection, and their pyramid on cuda, in f32 and bf16") {
  if (!test::have_cuda()) return;
  const bool all = !test::emulated();  // 512 channels take the emulation minutes
  check_modules(Dtype::f32, kCuda, all);
  check_modules(Dtype::bf16, kCuda, all);
}

TEST_CASE("a whole segmentor is PyTorch's: outputs, gradients, running statistics") {
  for (const std::string head : {"upernet", "semantic_fpn"}) {
    CAPTURE(head);
    const fs::path file =
        fs::path(SG_TEST_DATA_DIR) / "torch" / ("segmentor_" + head + ".safetensors");
    const golden::Result r = golden::check_golden(file, Dtype::f64, Device{});
    REQUIRE(r.rows.size() > 300);  // one a tensor
    CAPTURE(r.rows[0].tensor);
    CHECK(r.rows[0].share_of_bound() <= 1);
    CHECK(r.passed());
    CHECK_THROWS_AS(golden::check_golden(file, Dtype::f32, Device{}), Error);
  }
}
