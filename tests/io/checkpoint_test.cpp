#include "io/checkpoint.h"

#include <algorithm>
#include <cstring>

#include "io/safetensors.h"
#include "sgformer/weights.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;
namespace fs = std::filesystem;

namespace {

Checkpoint sample() {
  const std::vector<NamedTensor> weights{
      {"head.weight", from_vector<float>({1, 2, 3, 4, 5, 6}, {3, 2})},
      {"head.bias", from_vector<float>({0.5f, -0.5f, 0}, {3})},
      {"empty", empty({0, 2})}};
  Checkpoint c;
  for (std::string_view prefix : {std::string_view(), kEma, kMoment1, kMoment2})
    for (NamedTensor& t : prefixed(prefix, weights)) c.tensors.push_back(t);
  c.state = {{"step", 7}, {"epoch", 2}, {"config", {{"lr", 1e-3}, {"model", "sgformer_s"}}}};
  return c;
}

std::vector<std::string> names(const std::vector<NamedTensor>& tensors) {
  std::vector<std::string> result;
  for (const auto& [name, tensor] : tensors) result.push_back(name);
  std::ranges::sort(result);
  return result;
}

}  // namespace

TEST_CASE("a checkpoint is read back, whole or in part") {
  const TemporaryFolder folder;
  const fs::path path = folder / "a.safetensors";
  save_checkpoint(path, sample());
  const Checkpoint read = load_checkpoint(path);
  CHECK(read.state == sample().state);
  CHECK(checkpoint_state(path) == sample().state);
  REQUIRE(read.tensors.size() == 12);
  const std::vector<std::string> official{"empty", "head.bias", "head.weight"};
  for (std::string_view prefix : {std::string_view(), kEma, kMoment1, kMoment2}) {
    CHECK(names(part(read.tensors, prefix)) == official);
    CHECK(names(load_part(path, prefix)) == official);
  }
  const Safetensors file = Safetensors::open(path);
  CHECK(is_checkpoint(file));
  CHECK(to_vector<float>(file.tensor("head.bias")) == std::vector<float>{0.5f, -0.5f, 0});
}

TEST_CASE("any byte flipped is an error that names the tensor or the header") {
  const TemporaryFolder folder;
  const fs::path path = folder / "a.safetensors";
  save_checkpoint(path, sample());
  const std::string whole = read_file(path);
  const Safetensors file = Safetensors::open(path);
  uint64_t header = 0;
  std::memcpy(&header, whole.data(), 8);
  std::vector<std::string> owner(8 + header);  // of each byte
  for (const std::string& name : file.names())
    owner.resize(owner.size() + file.tensor(name).bytes(), name);
  REQUIRE(owner.size() == whole.size());

  for (size_t i = 0; i < whole.size(); ++i)
    for (int mask : {1, 0x80, 0xff}) {
      std::string damaged = whole;
      damaged[i] = char(damaged[i] ^ mask);
      put(path, damaged);
      const std::string message = error_of(ExitCode::checkpoint, [&] { load_checkpoint(path); });
      CAPTURE(i);
      CAPTURE(mask);
      CAPTURE(message);
      if (!owner[i].empty())
        CHECK(contains(message, "tensor '" + owner[i] + "': expected checksum"));
      else
        CHECK((contains(message, "header") || contains(message, "tensor") ||
               contains(message, "not a training checkpoint")));
    }
}

TEST_CASE("a file cut anywhere is an error") {
  const TemporaryFolder folder;
  const fs::path path = folder / "a.safetensors";
  Checkpoint c = sample();
  c.tensors.emplace_back("large", zeros({20'000}));
  save_checkpoint(path, c);
  const uintmax_t size = fs::file_size(path);
  std::vector<uintmax_t> cuts;
  for (uintmax_t cut = 4096; cut < size; cut += 4096) cuts.push_back(cut);
  for (uintmax_t cut = 1; cut < 4096; cut += 13) cuts.push_back(size - cut);
  std::ranges::sort(cuts, std::greater());
  for (uintmax_t cut : cuts) {
    fs::resize_file(path, cut);
    CHECK(
        contains(error_of(ExitCode::checkpoint, [&] { load_checkpoint(path); }), "a.safetensors"));
  }
}

TEST_CASE("what is not a checkpoint is told from a damaged one") {
  const TemporaryFolder folder;
  write_safetensors(folder / "w.safetensors", part(sample().tensors, ""));
  CHECK(contains(error_of(ExitCode::checkpoint, [&] { load_checkpoint(folder / "w.safetensors"); }),
                 "--initial-checkpoint"));
  Checkpoint c = sample();
  c.state = {{"epoch", 1}};
  CHECK(contains(error_of(ExitCode::checkpoint, [&] { save_checkpoint(folder / "b", c); }),
                 "'step'"));
  CHECK_FALSE(fs::exists(folder / "b"));  // it was read back before it took the name
  c = sample();
  c.state["config"]["path"] = "\xff";
  save_checkpoint(folder / "c", c);
  CHECK(load_checkpoint(folder / "c").state["step"] == 7);
}
