#include "io/file_kind.h"

#include "io/checkpoint.h"
#include "io/pth_write.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

namespace {

struct Folder : TemporaryFolder {
  std::string refused(const std::string& content) const {
    put(*this / "weights.pth", content);
    const std::string message =
        error_of(ExitCode::checkpoint, [&] { kind_of(*this / "weights.pth"); });
    CHECK(contains(message, "weights.pth: expected weights"));
    return message;
  }
};

}  // namespace

TEST_CASE("what a file is, its bytes say, whatever its name") {
  const Folder folder;
  const std::vector<NamedTensor> tensors{{"a", full({2}, 1)}};
  write_safetensors(folder / "a.pth", tensors);
  CHECK(kind_of(folder / "a.pth") == FileKind::safetensors);
  std::string zip;
  write_pth([&](const void* data, size_t n) { zip.append(static_cast<const char*>(data), n); },
            tensors);
  put(folder / "a.safetensors", zip);
  CHECK(kind_of(folder / "a.safetensors") == FileKind::torch_zip);
  // The magic number of the stream form as Python pickles it in protocols 2 to 5.
  const std::string magic("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 13);
  const std::string frame("\x95\x0d\0\0\0\0\0\0\0", 9);
  for (const std::string& start :
       std::vector<std::string>{"\x80\x02", "\x80\x03", "\x80\x04" + frame, "\x80\x05" + frame}) {
    put(folder / "a", start + magic);
    CHECK(kind_of(folder / "a") == FileKind::torch_stream);
  }
}

TEST_CASE("a file of another kind is told by what it looks like") {
  const Folder folder;
  const std::pair<std::string, std::string> cases[] = {
      {"", "found an empty file"},
      {std::string(700, '\0'), "found zero bytes"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"},
      {"\x1f\x8b\x08", "a gzip archive; unpack it"},
      {"BZh9", "a bzip2 archive"},
      {std::string("\xfd"
                   "7zXZ\0",
                   6),
       "an xz archive"},
      {"\x28\xb5\x2f\xfd", "a zstd archive"},
      {std::string(257, 'a') + "ustar", "a tar archive"},
      {"PK\x05\x06", "an empty zip archive"},
      {"  \n<!DOCTYPE html><html>", "an HTML page; download the file itself"},
      {"<HTML>", "an HTML page"},
      {"{\"weight_map\": {}}", "found JSON"},
      {"404: Not Found", "found text"},
      {"\x89HDF\r\n", "an HDF5 file"},
      {"\x93NUMPY\x01", "an array of NumPy"},
      {"\x80\x04}.", "a pickle without the frame of torch.save"},
      {"\x01\x02\x03", "a file of another kind"}};
  for (const auto& [content, expected] : cases) {
    const std::string message = folder.refused(content);
    CHECK_MESSAGE(contains(message, expected), message);
  }
  CHECK(
      contains(error_of(ExitCode::checkpoint, [&] { kind_of(folder / "none"); }), "No such file"));
}

TEST_CASE("weights alone are no training checkpoint, whatever they are in") {
  const Folder folder;
  std::string zip;
  write_pth([&](const void* data, size_t n) { zip.append(static_cast<const char*>(data), n); },
            {{"a", full({2}, 1)}});
  put(folder / "a.pth.tar", zip);
  write_safetensors(folder / "b.safetensors", {{"a", full({2}, 1)}});
  for (const char* name : {"a.pth.tar", "b.safetensors"}) {
    CHECK(contains(error_of(ExitCode::checkpoint, [&] { load_checkpoint(folder / name); }),
                   "--initial-checkpoint"));
    CHECK_FALSE(is_checkpoint(folder / name));
  }
  save_checkpoint(folder / "best.ckpt", {{{"a", full({2}, 1)}}, {{"step", 1}}});
  CHECK(is_checkpoint(folder / "best.ckpt"));
}
