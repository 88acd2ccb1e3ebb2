// Files of torch.save (.pth, .pt, .pth.tar), as a zip archive or in the older stream form. They
// are read as data; nothing in them is executed.
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "io/file.h"
#include "io/pth_entries.h"
#include "io/zip.h"

namespace sg {

// The tensors of a file, named by their path through dictionaries, lists and tuples:
// "state_dict.head.weight", "optimizer.state.0.exp_avg". Whatever the file holds, the outcome is a
// value or an Error (ExitCode::checkpoint).
class Pth {
 public:
  static Pth open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_->path(); }
  const std::vector<std::string>& names() const { return names_; }  // in the file's order
  bool contains(const std::string& name) const { return index_.contains(name); }
  Shape shape(const std::string& name) const { return entry(name).shape; }
  Dtype dtype(const std::string& name) const { return dtype_of(entry(name).type); }
  // A dense copy, on the CPU; half becomes f32, other integers i32, bool u8. Not for several
  // threads at once.
  Tensor tensor(const std::string& name) const;
  // The texts of a list or tuple that dictionaries hold under these keys ("meta", "CLASSES"); none
  // where it is not there, or has something else in it.
  std::vector<std::string> texts(const std::vector<std::string_view>& keys) const;

 private:
  explicit Pth(const std::filesystem::path& path);
  void open_zip();
  void open_stream();
  void add(std::vector<std::pair<std::string, PthEntry>> entries);
  const std::string& storage(const PthEntry& entry) const;
  const PthEntry& entry(const std::string& name) const;

  std::unique_ptr<InputFile> file_;
  std::unique_ptr<Zip> zip_;  // null in the stream form
  std::optional<Pickle> pickle_;
  std::string folder_;  // "<name>/" before every entry of the archive
  struct Bytes {
    uint64_t begin = 0, size = 0;
  };
  std::map<std::string, Bytes> storages_;  // by key, where they lie in the file
  std::vector<std::string> names_;
  std::map<std::string, PthEntry> index_;
  // The storage read last: many tensors may be views of one.
  mutable std::string cached_key_, cached_;
};

}  // namespace sg
