#include <cmath>
#include <map>

#include "io/checkpoint.h"
#include "io/pth.h"
#include "sgformer/weights.h"
#include "tests/tools/programs.h"

namespace sg {
namespace {

namespace fs = std::filesystem;
using test::contains, test::run_program;

// run.safetensors is a checkpoint whose averaged weights are twice the others.
struct Folder : test::TemporaryFolder {
  Folder() {
    test::save_as_checkpoint(*model, *this / "run.safetensors");
    Checkpoint c = load_checkpoint(*this / "run.safetensors");
    for (const auto& [name, tensor] : part(c.tensors, "")) {
      Tensor twice = tensor.clone();
      for (float& x : twice.span<float>()) x *= 2;
      c.tensors.emplace_back(std::string(kEma) + name, twice);
    }
    save_checkpoint(*this / "run.safetensors", c);
  }
  test::Ran convert(const std::string& in, const std::string& out,
                    const std::string& flags = "") const {
    return run_program(
        fmt::format("sgconvert {} {} {}", (*this / in).string(), (*this / out).string(), flags));
  }
  // Whether the file holds all of the model, `scale` times.
  template <class File>
  void check(const File& file, float scale) const {
    const nn::ParameterStore& p = model->parameters();
    CHECK(file.names().size() == p.names().size());
    for (const std::string& name : p.names()) {
      CAPTURE(name);
      REQUIRE(file.contains(name));
      CHECK(file.shape(name) == p.part(name).official);
      auto expected = to_vector<float>(p.get(p.values(), name));
      for (float& x : expected) x *= scale;
      REQUIRE(to_vector<float>(file.tensor(name)) == expected);
    }
  }

  const std::unique_ptr<sgformer::Classifier> model = test::nano();
};

}  // namespace

TEST_CASE("sgconvert: the weights alone, averaged or not, for other programs") {
  const Folder folder;
  const auto ran = folder.convert("run.safetensors", "ema.safetensors");
  REQUIRE(ran.code == 0);
  CHECK(contains(ran.err, "the averaged (EMA) weights"));
  const Safetensors averaged = Safetensors::open(folder / "ema.safetensors");
  folder.check(averaged, 2);
  CHECK(averaged.metadata() == Metadata{{"format", "pt"}});

  REQUIRE(folder.convert("run.safetensors", "raw.pth", "--no-ema").code == 0);
  folder.check(Pth::open(folder / "raw.pth"), 1);
  CHECK(Pth::open(folder / "raw.pth").names() == folder.model->parameters().names());
  // And back, without a word on the model.
  REQUIRE(folder.convert("raw.pth", "raw.safetensors").code == 0);
  folder.check(Safetensors::open(folder / "raw.safetensors"), 1);
  const auto none = folder.convert("raw.pth", "none.pth", "--ema");
  CHECK(none.code == 4);
  CHECK(contains(none.err, "holds no averaged (EMA) weights"));
  CHECK_FALSE(fs::exists(folder / "none.pth"));
}

TEST_CASE("sgconvert: half the bytes") {
  const Folder folder;
  for (const char* dtype : {"bf16", "f16"})
    for (const char* out : {"a.pth", "a.safetensors"}) {
      CAPTURE(dtype);
      CAPTURE(out);
      const std::string flags = fmt::format("--no-ema --force --dtype {}", dtype);
      REQUIRE(folder.convert("run.safetensors", out, flags).code == 0);
      CHECK(fs::file_size(folder / out) <
            300 * 1024 + 2 * size_t(folder.model->parameters().count()));
      const sgformer::Weights weights = sgformer::load_weights(folder / out);
      std::map<std::string, Tensor> found(weights.tensors.begin(), weights.tensors.end());
      const nn::ParameterStore& p = folder.model->parameters();
      for (const std::string& name : p.names()) {
        const auto a = to_vector<float>(found[name]), b = to_vector<float>(p.get(p.values(), name));
        REQUIRE(a.size() == b.size());
        // bf16 has 8 bits of precision, f16 11, and multiples of 2^-24 below 2^-14.
        const float relative = dtype == std::string("bf16") ? 0x1p-8f : 0x1p-11f;
        for (size_t i = 0; i < a.size(); ++i)
          REQUIRE(std::abs(a[i] - b[i]) <= std::max(relative * std::abs(b[i]), 0x1p-25f));
      }
    }
}

TEST_CASE("sgconvert: a file that is there is kept, unless --force says otherwise") {
  const Folder folder;
  test::put(folder / "a.pth", "precious");
  const auto refused = folder.convert("run.safetensors", "a.pth");
  CHECK(refused.code == 2);
  CHECK(contains(refused.err, "--force"));
  CHECK(read_file(folder / "a.pth") == "precious");
  REQUIRE(folder.convert("run.safetensors", "a.pth", "--force").code == 0);
  folder.check(Pth::open(folder / "a.pth"), 2);
  // Onto itself too: all is read before anything is written.
  REQUIRE(folder.convert("a.pth", "a.pth", "--force --format safetensors").code == 0);
  folder.check(Safetensors::open(folder / "a.pth"), 2);
  for (const auto& item : fs::directory_iterator(folder.path()))
    CHECK_FALSE(contains(item.path().string(), "unfinished"));
}

TEST_CASE("sgconvert: a run's folder is its best checkpoint, which is never written over") {
  const Folder folder;
  fs::create_directories(folder / "run/checkpoints");
  fs::rename(folder / "run.safetensors", folder / "run/checkpoints/best.safetensors");
  REQUIRE(folder.convert("run", "a.pth").code == 0);
  folder.check(Pth::open(folder / "a.pth"), 2);
  const auto refused = folder.convert("run", "run/checkpoints/best.safetensors", "--force");
  CHECK(refused.code == 2);
  CHECK(contains(refused.err, "is a checkpoint of sgtrain"));
  CHECK(is_checkpoint(folder / "run/checkpoints/best.safetensors"));
}

TEST_CASE("sgconvert: what does not fit is refused") {
  const Folder folder;
  CHECK(folder.convert("run.safetensors", "a.onnx").code == 2);
  CHECK(folder.convert("run.safetensors", ".").code == 2);
  CHECK(folder.convert("run.safetensors", "a.pth", "--dtype f8").code == 2);
  CHECK(folder.convert("none.pth", "a.pth").code == 4);
  CHECK(folder.convert("run.safetensors", "none/a.pth").code == 4);
  write_safetensors(folder / "part.safetensors", {{"head.bias", full({3}, 1)}});
  CHECK(folder.convert("part.safetensors", "a.pth", "--model sgformer_nano").code == 4);
  write_safetensors(folder / "large.safetensors", {{"head.bias", full({3}, 1e6)}});
  const auto large = folder.convert("large.safetensors", "a.pth", "--dtype f16");
  CHECK(large.code == 1);
  CHECK(contains(large.err, "tensor 'head.bias': 1000000 is too large for f16"));
  CHECK_FALSE(fs::exists(folder / "a.pth"));
}

TEST_CASE("sgconvert: segmentors with their running statistics, there and back") {
  const test::TemporaryFolder folder;
  const auto model = test::nano_segmentor();
  test::save_as_checkpoint(*model, folder / "run.safetensors");
  const auto convert = [&](const char* in, const char* out) {
    const auto ran =
        run_program(fmt::format("sgconvert {0}/{1} {0}/{2}", folder.path().string(), in, out));
    CHECK_MESSAGE(ran.code == 0, ran.err);
    CHECK_FALSE(contains(ran.err, "in no published model"));
  };
  convert("run.safetensors", "a.pth");
  convert("a.pth", "b.safetensors");
  const nn::ParameterStore& p = model->parameters();
  const Safetensors back = Safetensors::open(folder / "b.safetensors");
  CHECK(back.names().size() == p.names().size() + p.named_buffers().size());
  for (const std::string& name : p.names())
    CHECK(to_vector<float>(back.tensor(name)) == to_vector<float>(p.get(p.values(), name)));
  for (const nn::Buffer& b : p.named_buffers())
    CHECK(to_vector<float>(back.tensor(b.name)) == to_vector<float>(b.value));
}

}  // namespace sg
