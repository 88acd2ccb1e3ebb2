// The safetensors format: named tensors and a map of strings in one file.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "io/file.h"
#include "io/stored_type.h"

namespace sg {

using NamedTensor = std::pair<std::string, Tensor>;
using Metadata = std::map<std::string, std::string>;

// A file open for reading. The header is checked in full by open(), tensors are read when asked
// for. Whatever the file holds, the outcome is a value or an Error (ExitCode::checkpoint) that
// names the file and the tensor.
class Safetensors {
 public:
  static Safetensors open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const Metadata& metadata() const { return metadata_; }
  std::vector<std::string> names() const;  // in the order of their bytes in the file
  bool contains(const std::string& name) const { return index_.contains(name); }
  Shape shape(const std::string& name) const { return entry(name).shape; }
  // The dtype that tensor() gives: F16 is read as f32, I64, I16 and I8 as i32, BOOL as u8.
  Dtype dtype(const std::string& name) const { return dtype_of(entry(name).type); }
  Tensor tensor(const std::string& name) const;  // a copy, on the CPU

  struct Entry {
    std::string name;
    StoredType type{};
    Shape shape;
    uint64_t begin = 0, end = 0;  // bytes in the file
  };

 private:
  explicit Safetensors(const std::filesystem::path& path) : file_(path, ExitCode::checkpoint) {}
  const Entry& entry(const std::string& name) const;

  InputFile file_;
  Metadata metadata_;
  std::vector<Entry> entries_;
  std::map<std::string, size_t> index_;
};

using ByteSink = std::function<void(const void* data, size_t bytes)>;

// Tensors are on the CPU and their names differ. Larger elements come first in the file, so that
// each tensor is aligned; otherwise the order is kept. `type` is that of stored_type().
void write_safetensors(const ByteSink& sink, const std::vector<NamedTensor>& tensors,
                       const Metadata& metadata = {}, std::optional<StoredType> type = {});
// Atomically: the path holds the old file or the whole new one.
void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const Metadata& metadata = {});

}  // namespace sg
