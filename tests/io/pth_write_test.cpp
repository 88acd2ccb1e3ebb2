#include "io/pth_write.h"

#include "io/pth.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

namespace {

void write(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
           std::optional<StoredType> type = {}) {
  AtomicFile file(path);
  write_pth([&](const void* data, size_t bytes) { file.write(data, bytes); }, tensors, type);
  file.commit();
}

std::vector<NamedTensor> sample() {
  return {{"weight", from_vector<float>({0, -1.5f, 2, 3, 4, 5}, {3, 2})},
          {"bf16", from_vector<float>({1, -2}, {2}).to(Dtype::bf16)},
          {"double", from_vector<double>({0.1}, {})},
          {"none", empty({0, 4})},
          {"int", from_vector<int32_t>({-7, 1 << 30}, {1, 2})},
          {"bytes", from_vector<uint8_t>({1, 2, 255}, {3})}};
}

}  // namespace

TEST_CASE(
    "a file of torch.save is read back, its tensors in order and where torch.load maps them") {
  const TemporaryFolder folder;
  write(folder / "a.pth", sample());
  const Pth file = Pth::open(folder / "a.pth");
  std::vector<std::string> names;
  for (const auto& [name, tensor] : sample()) {
    names.push_back(name);
    const Tensor read = file.tensor(name);
    CHECK(read.shape() == tensor.shape());
    CHECK(read.dtype() == tensor.dtype());
    CHECK(to_vector<double>(read) == to_vector<double>(tensor));
  }
  CHECK(file.names() == names);

  const InputFile bytes(folder / "a.pth");
  const Zip zip(bytes);
  CHECK(zip.read("archive/byteorder") == "little");
  CHECK(zip.read("archive/version") == "3\n");
  CHECK(zip.entries().size() == 3 + sample().size());
  for (const auto& [name, entry] : zip.entries()) CHECK(entry.offset % 64 == 0);
}

TEST_CASE("a file of torch.save holds floating-point numbers as asked for") {
  const TemporaryFolder folder;
  write(folder / "a.pth", sample(), StoredType::f16);
  const Pth file = Pth::open(folder / "a.pth");
  CHECK(to_vector<float>(file.tensor("weight")) == std::vector<float>{0, -1.5f, 2, 3, 4, 5});
  CHECK(file.dtype("double") == Dtype::f32);  // as halves are read
  CHECK(to_vector<int>(file.tensor("int")) == std::vector<int>{-7, 1 << 30});
  CHECK_THROWS_AS(write(folder / "b.pth", {{"a", full({1}, 1)}, {"a", full({1}, 1)}}), Error);
  CHECK_THROWS_AS(write(folder / "b.pth", {{"a", Tensor()}}), Error);
  CHECK_FALSE(std::filesystem::exists(folder / "b.pth"));
}
