#include "tools/golden/golden.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <span>

#include "core/error.h"
#include "io/safetensors.h"
#include "tests/tools/programs.h"
#include "tools/golden/golden_sgformer.h"

using namespace sg;
using namespace sg::golden;
using test::kCuda;
namespace fs = std::filesystem;

namespace {

void check_file(const fs::path& file, Dtype dtype, Device device = {}) {
  const Result r = check_golden(file, dtype, device);
  CAPTURE(file.string());
  CAPTURE(name_of(dtype));
  REQUIRE(!r.rows.empty());
  CAPTURE(r.rows[0].tensor);
  CHECK(r.rows[0].share_of_bound() <= 1);
  CHECK(r.passed());
}

void check_folder(const char* relative, Dtype dtype, Device device = {}) {
  const fs::path folder = test::shared(relative);
  if (folder.empty()) return;
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder))
    check_file(entry.path(), dtype, device), ++files;
  CHECK(files > 0);
}

}  // namespace

TEST_CASE("golden_check: damaged files are counted as failures, and the others checked") {
  const test::TemporaryFolder folder;
  test::put(folder / "a.safetensors", "damaged");
  test::put(folder / "b.safetensors", std::string(100, '\xff'));
  test::put(folder / "c.txt", "no golden file");
  const auto ran = test::run_program("golden_check --device cpu " + folder.path().string());
  CHECK(ran.code == 1);
  for (const char* said : {"FAIL", "a.safetensors", "b.safetensors", "0 passed, 2 failed"})
    CHECK_MESSAGE(test::contains(ran.out, said), ran.out);
}

TEST_CASE("modules of the published model in f64") { check_folder("golden/modules", Dtype::f64); }
TEST_CASE("modules of the published model in f32 and bf16") {
  check_folder("golden/modules", Dtype::f32);
  check_folder("golden/modules", Dtype::bf16);
}
TEST_CASE("modules of the published model on cuda, in f32 and bf16") {
  if (!test::have_cuda()) return;
  check_folder("golden/modules", Dtype::f32, kCuda);
  check_folder("golden/modules", Dtype::bf16, kCuda);
}
TEST_CASE("whole models in f64") { check_folder("golden/models", Dtype::f64); }
TEST_CASE("whole models in f32 and bf16, the ranking given") {
  check_folder("golden/models", Dtype::f32);
  check_folder("golden/models", Dtype::bf16);
}
TEST_CASE("whole models at other image sizes in f64, and in f32 and bf16 with the ranking given") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16})
    check_folder("golden/any_size", dtype);
}
TEST_CASE("whole models on cuda, in f32 and bf16, the ranking given") {
  if (!test::have_cuda()) return;
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    // The emulation takes a minute for the tiny model at 224 x 224, and half an hour for S.
    if (test::emulated()) {
      const fs::path file = test::shared("golden/any_size/any_size_100x37.safetensors");
      if (file.empty()) return;
      check_file(file, dtype, kCuda);
    } else {
      check_folder("golden/models", dtype, kCuda);
      check_folder("golden/any_size", dtype, kCuda);
    }
  }
}

TEST_CASE("scores of semantic segmentation") { check_folder("golden/dense/miou", Dtype::f64); }

TEST_CASE("a score of a golden file that is a number where none is found, or none, is seen") {
  const fs::path small = test::shared("golden/dense/miou/small.safetensors");
  if (small.empty()) return;
  const Safetensors original = Safetensors::open(small);
  const test::TemporaryFolder folder;
  const auto passes = [&](const std::string& changed, const std::function<void(double&)>& change) {
    std::vector<NamedTensor> tensors;
    for (const std::string& name : original.names()) {
      Tensor t = original.tensor(name);
      if (name == changed) change((t = t.to(Dtype::f64).clone()).data<double>()[0]);
      tensors.emplace_back(name, t);
    }
    write_safetensors(folder / "changed.safetensors", tensors, original.metadata());
    return check_golden(folder / "changed.safetensors", Dtype::f64).passed();
  };
  CHECK(passes("iou", [](double&) {}));
  CHECK_FALSE(passes("iou", [](double& v) { v = NAN; }));
  CHECK_FALSE(passes("summary", [](double& v) { v *= 1 + 1e-10; }));
  CHECK_FALSE(passes("intersection", [](double& v) { v += 1; }));
}

TEST_CASE("a wrong number of a golden file is seen, in the whole or in its row") {
  const fs::path module = test::shared("golden/modules/mlp.safetensors");
  if (module.empty()) return;
  const Safetensors original = Safetensors::open(module);
  const test::TemporaryFolder folder;
  const auto evaluated = [&](const std::function<void(std::span<double>)>& change) {
    std::vector<NamedTensor> tensors;
    for (const std::string& name : original.names()) {
      tensors.emplace_back(name, original.tensor(name).clone());
      if (name == "output") change(tensors.back().second.span<double>());
    }
    write_safetensors(folder / "changed.safetensors", tensors, original.metadata());
    return check_golden(folder / "changed.safetensors", Dtype::f32);
  };
  CHECK(evaluated([](auto) {}).passed());
  // Too little for the norm of the whole.
  const auto channels = size_t(original.shape("output")[2]);
  const Result row = evaluated([&](auto v) {
    for (double& x : v.subspan(v.size() / 2 / channels * channels, channels)) x *= 1 + 5e-5;
  });
  CHECK_FALSE(row.passed());
  CHECK(row.rows[0].tensor == "output");
  CHECK(row.rows[0].error.whole <= row.rows[0].bound);
  CHECK_FALSE(evaluated([](auto v) { v[0] = NAN; }).passed());
}

TEST_CASE("any file is refused in a dtype that a device does not have") {
  const fs::path folder = test::shared("golden");
  if (folder.empty()) return;
  const fs::path file = folder / "modules/mlp.safetensors";
  CHECK_THROWS_AS(check_golden(file, Dtype::i32), Error);
  CHECK_THROWS_AS(check_golden(file, Dtype::f64, kCuda), Error);
}

TEST_CASE("a file of a kind that is not known here is not checked, and others still are") {
  const fs::path mlp = test::shared("golden/modules/mlp.safetensors");
  if (mlp.empty()) return;
  const test::TemporaryFolder folder;
  const Tensor one = full({1}, 1);
  write_safetensors(folder / "a.safetensors", {{"x", one}}, {{"module", "depth_head"}});
  write_safetensors(folder / "b.safetensors", {{"x", one}}, {{"case.000", "{}"}});
  write_safetensors(folder / "weights.safetensors", {{"x", one}}, {{"format", "pt"}});
  CHECK_FALSE(check_golden(folder / "a.safetensors", Dtype::f64).checked());
  CHECK_FALSE(check_golden(folder / "a.safetensors", Dtype::f64).passed());
  CHECK_FALSE(is_golden(folder / "weights.safetensors"));
  fs::copy(mlp, folder / "c.safetensors");
  const auto ran = test::run_program("golden_check --device cpu " + folder.path().string());
  CHECK(ran.code == 1);
  CHECK(test::contains(ran.out, "(depth_head): not checked"));
  CHECK(test::contains(ran.out, "b.safetensors (no module named): not checked"));
  CHECK(test::contains(ran.out, "1 passed, 0 failed, 2 not checked"));
}

TEST_CASE("the bounds of whole models grow with their depth, and are those of their precision") {
  const auto s = sgformer::find_config("sgformer_s"), b = sgformer::find_config("sgformer_b");
  CHECK(model_bound(s, Dtype::f64) == 1e-9);
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    CHECK(model_bound(b, dtype) > model_bound(s, dtype));
    CHECK(model_gradient_bound(s, dtype) > model_bound(s, dtype));
  }
  CHECK(model_bound(s, Dtype::f32) < 1e-4);
  CHECK(model_bound(s, Dtype::bf16) < 0.05);
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
