#include "io/file_kind.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <string>

namespace sg {
namespace {

constexpr size_t kHead = 512;  // bytes that are looked at

// The pickle of the integer 0x1950a86a20f9469cfc6c, of any protocol, comes first in the stream
// form.
bool is_torch_stream(std::string_view head) {
  constexpr std::string_view kMagic("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 13);
  if (head.size() < 2 || head[0] != '\x80' || head[1] < 2 || head[1] > 5) return false;
  head.remove_prefix(2);
  if (head.starts_with('\x95')) head.remove_prefix(std::min<size_t>(9, head.size()));  // a frame
  return head.starts_with(kMagic);
}

// The length of a header, which is JSON.
bool is_safetensors(std::string_view head) {
  uint64_t length = 0;
  if (head.size() < 9 || head[8] != '{') return false;
  std::memcpy(&length, head.data(), sizeof length);
  return length <= kMaxSafetensorsHeader;
}

struct Other {
  size_t offset;
  std::string_view bytes, what, advice;
};
using namespace std::string_view_literals;
constexpr std::string_view kUnpack = "unpack it first";
constexpr Other kOthers[] = {
    {0, "version https://git-lfs"sv, "a pointer of Git LFS, not the file itself",
     "fetch it by git lfs pull"},
    {0, "\x1f\x8b"sv, "a gzip archive", kUnpack},
    {0, "BZh"sv, "a bzip2 archive", kUnpack},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "an xz archive", kUnpack},
    {0, "\x28\xb5\x2f\xfd"sv, "a zstd archive", kUnpack},
    {0, "7z\xbc\xaf\x27\x1c"sv, "a 7-Zip archive", kUnpack},
    {0, "Rar!"sv, "a RAR archive", kUnpack},
    {257, "ustar"sv, "a tar archive", kUnpack},
    {0, "PK\x05\x06"sv, "an empty zip archive", "take another copy of it"},
    {0, "\x89HDF"sv, "an HDF5 file", "save the weights by torch.save or as safetensors"},
    {0, "GGUF"sv, "a GGUF file", "save the weights by torch.save or as safetensors"},
    {0, "\x93NUMPY"sv, "an array of NumPy", "save the weights by torch.save or as safetensors"},
    {0, "\x89PNG"sv, "an image (PNG)", "give the checkpoint there"},
    {0, "\xff\xd8\xff"sv, "an image (JPEG)", "give the checkpoint there"},
    {0,
     "\x7f"
     "ELF"sv,
     "a program (ELF)", "give the checkpoint there"},
};

bool is_text(std::string_view head) {
  return std::ranges::all_of(
      head, [](char c) { return (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\r' || c == '\t'; });
}

// The first of these is in lower case.
Other text_kind(std::string_view head) {
  std::string start(head.substr(std::min(head.find_first_not_of(" \t\r\n"), head.size())));
  std::ranges::transform(start, start.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const std::string_view tag : {"<!doctype"sv, "<html"sv, "<head"sv, "<?xml"sv, "<!--"sv})
    if (start.starts_with(tag))
      return {0, {}, "an HTML page", "download the file itself: this is a page about it"};
  if (start.starts_with('{') || start.starts_with('['))
    return {0, {}, "JSON", "give the file of the weights that belongs to it"};
  return {0, {}, "text", "give the file of the weights"};
}

Other look_at(std::string_view head) {
  if (head.empty()) return {0, {}, "an empty file", "take another copy of it"};
  for (const Other& other : kOthers)
    if (head.size() > other.offset && head.substr(other.offset).starts_with(other.bytes))
      return other;
  if (std::ranges::all_of(head, [](char c) { return c == 0; }))
    return {0, {}, "zero bytes", "take another copy of it, this one was not written to its end"};
  if (head.size() >= 2 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5)
    return {0, {}, "a pickle without the frame of torch.save", "save its tensors by torch.save"};
  if (is_text(head)) return text_kind(head);
  return {0, {}, "a file of another kind", "take another copy of it, or convert it"};
}

}  // namespace

std::string_view name_of(FileKind kind) {
  return kind == FileKind::safetensors ? "a safetensors file" : "a file of torch.save";
}

FileKind kind_of(const InputFile& file) {
  std::string head(std::min<uint64_t>(file.size(), kHead), '\0');
  file.read(0, head.data(), head.size());
  if (head.starts_with("PK\x03\x04")) return FileKind::torch_zip;
  if (is_torch_stream(head)) return FileKind::torch_stream;
  if (is_safetensors(head)) return FileKind::safetensors;
  const Other other = look_at(head);
  fail(file.code(), "{}: expected weights (a safetensors file or one of torch.save), found {}; {}",
       file.path().string(), other.what, other.advice);
}

FileKind kind_of(const std::filesystem::path& path) {
  return kind_of(InputFile(path, ExitCode::checkpoint));
}

}  // namespace sg
