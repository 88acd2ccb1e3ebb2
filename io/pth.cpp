#include "io/pth.h"

#include <algorithm>
#include <cstring>

#include "io/file_kind.h"

namespace sg {
namespace {

using Node = Pickle::Node;
using Kind = Node::Kind;

constexpr uint64_t kMaxPickle = 64 << 20;
constexpr int64_t kStreamVersion = 1001;

}  // namespace

Pth::Pth(const std::filesystem::path& path)
    : file_(std::make_unique<InputFile>(path, ExitCode::checkpoint)) {}

Pth Pth::open(const std::filesystem::path& path) {
  Pth result(path);
  switch (const FileKind kind = kind_of(*result.file_)) {
    case FileKind::torch_zip:
      result.open_zip();
      break;
    case FileKind::torch_stream:
      result.open_stream();
      break;
    case FileKind::safetensors:
      fail(ExitCode::checkpoint, "{}: expected a file of torch.save, found {}", path.string(),
           name_of(kind));
  }
  if (result.names_.empty())
    fail(ExitCode::checkpoint,
         "{}: holds no tensors in dictionaries or lists; save model.state_dict(), not the model",
         path.string());
  return result;
}

void Pth::open_zip() {
  const std::string file = path().string();
  zip_ = std::make_unique<Zip>(*file_);
  constexpr std::string_view kPickle = "/data.pkl";
  for (const auto& [name, entry] : zip_->entries())
    if (name.ends_with(kPickle) && name.find('/') == name.size() - kPickle.size())
      folder_ = name.substr(0, name.find('/') + 1);
  const auto& entries = zip_->entries();
  const auto pickle = entries.find(folder_ + "data.pkl");
  if (pickle == entries.end())
    fail(ExitCode::checkpoint, "{}: a zip file without data.pkl, not one of torch.save", file);
  if (pickle->second.size > kMaxPickle)
    fail(ExitCode::checkpoint, "{}: data.pkl has {} bytes, expected at most {}", file,
         pickle->second.size, kMaxPickle);
  if (entries.contains(folder_ + "byteorder") && zip_->read(folder_ + "byteorder") != "little")
    fail(ExitCode::checkpoint, "{}: written on a big-endian machine, which is not supported", file);

  const std::string data = folder_ + "data/";
  for (const auto& [name, entry] : entries)
    if (name.starts_with(data))
      storages_.emplace(name.substr(data.size()), Bytes{entry.offset, entry.size});
  const std::string bytes = zip_->read(folder_ + "data.pkl");
  pickle_.emplace(bytes, file);
  add(pth_entries(pickle_->root(), file));
}

void Pth::open_stream() {
  const std::string file = path().string();
  std::string bytes(std::min(file_->size(), kMaxPickle), '\0');
  file_->read(0, bytes.data(), bytes.size());
  uint64_t at = 0;
  const auto next = [&] {
    Pickle pickle(std::string_view(bytes).substr(at), file);
    at += pickle.size();
    return pickle;
  };
  next();  // the magic number, by which the kind was known
  const Pickle version = next(), system = next();
  const Pickle& object = pickle_.emplace(next());
  const Pickle keys = next();
  if (version.root().integer != kStreamVersion)
    fail(ExitCode::checkpoint, "{}: stream version {}, expected {}", file, version.root().integer,
         kStreamVersion);
  for (size_t i = 0; i + 1 < system.root().items.size(); i += 2)
    if (system.root().items[i]->text == "little_endian" && !system.root().items[i + 1]->boolean)
      fail(ExitCode::checkpoint, "{}: written on a big-endian machine, which is not supported",
           file);

  // The storages follow without their types, which only the pickle knows.
  std::map<std::string, StoredType> types;
  for (const Node& node : object.nodes()) {
    PthEntry entry;
    if (node.kind == Kind::persistent && read_storage(node, entry))
      types.emplace(entry.storage, entry.type);
  }
  for (const Node* key : keys.root().items) {
    const auto type = types.find(key->text);
    if (type == types.end())
      fail(ExitCode::checkpoint, "{}: storage '{}' is of no supported type", file, key->text);
    int64_t count = 0;
    uint64_t size = 0;
    file_->read(at, &count, sizeof count);
    at += sizeof count;
    if (count < 0 || __builtin_mul_overflow(uint64_t(count), size_of(type->second), &size) ||
        size > file_->size() - at)
      fail(ExitCode::checkpoint, "{}: storage '{}' of {} elements exceeds the file; it is cut",
           file, key->text, count);
    storages_[key->text] = {at, size};
    at += size;
  }
  add(pth_entries(object.root(), file));
}

std::vector<std::string> Pth::texts(const std::vector<std::string_view>& keys) const {
  const Node* at = &pickle_->root();
  for (const std::string_view key : keys) {
    const Node* value = nullptr;
    for (size_t i = 0; at->kind == Kind::dict && i + 1 < at->items.size(); i += 2)
      if (at->items[i]->kind == Kind::text && at->items[i]->text == key) value = at->items[i + 1];
    if (!value) return {};
    at = value;
  }
  std::vector<std::string> result;
  if (at->kind != Kind::list && at->kind != Kind::tuple) return {};
  for (const Node* item : at->items) {
    if (item->kind != Kind::text) return {};
    result.push_back(item->text);
  }
  return result;
}

void Pth::add(std::vector<std::pair<std::string, PthEntry>> entries) {
  // An expanded tensor (stride 0) may claim any size: in all, no more than a few times the file.
  uint64_t left = 8 * file_->size() + (1 << 20);
  for (auto& [name, e] : entries) {
    const auto found = storages_.find(e.storage);
    if (!e.problem.empty()) {
    } else if (found == storages_.end()) {
      e = {.problem = fmt::format("its storage '{}' is missing", e.storage)};
    } else if (const uint64_t size = size_of(e.type);
               found->second.size / size != uint64_t(e.storage_numel) ||
               found->second.size % size != 0) {
      e = {.problem = fmt::format("its storage '{}' has {} bytes, expected {} elements of {}",
                                  e.storage, found->second.size, e.storage_numel, size)};
    } else if (const uint64_t bytes = uint64_t(e.shape.numel()) * size; bytes > left) {
      fail(ExitCode::checkpoint, "{}: tensor '{}': shape {} needs far more bytes than the file has",
           path().string(), name, e.shape.str());
    } else {
      left -= bytes;
    }
    names_.push_back(name);
    if (!index_.emplace(name, std::move(e)).second)
      fail(ExitCode::checkpoint, "{}: the name '{}' occurs twice", path().string(), name);
  }
}

const PthEntry& Pth::entry(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end())
    fail(ExitCode::checkpoint, "{}: holds no tensor '{}'", path().string(), name);
  if (!found->second.problem.empty())
    fail(ExitCode::checkpoint, "{}: tensor '{}' cannot be read: {}", path().string(), name,
         found->second.problem);
  return found->second;
}

const std::string& Pth::storage(const PthEntry& entry) const {
  if (cached_key_ == entry.storage && !cached_.empty()) return cached_;
  if (zip_) {
    cached_ = zip_->read(folder_ + "data/" + entry.storage);  // checks its CRC
  } else {
    const Bytes& where = storages_.at(entry.storage);
    cached_.resize(where.size);
    file_->read(where.begin, cached_.data(), cached_.size());
  }
  cached_key_ = entry.storage;
  return cached_;
}

Tensor Pth::tensor(const std::string& name) const {
  const PthEntry& e = entry(name);
  Tensor t = empty(e.shape, dtype_of(e.type));
  if (t.numel() == 0) return t;
  const std::string& bytes = storage(e);
  const auto* from = reinterpret_cast<const std::byte*>(bytes.data());
  auto* to = static_cast<std::byte*>(t.raw());

  // Row by row along the last dimension; `index` counts the others. A scalar is one row of one.
  const int outer = std::max(t.dims() - 1, 0);
  const int64_t length = t.dims() ? t.dim(-1) : 1, stride = t.dims() ? e.strides.back() : 1;
  std::vector<int64_t> index(size_t(outer), 0);
  for (int64_t done = 0; done < t.numel(); done += length) {
    int64_t at = e.offset;
    for (int i = 0; i < outer; ++i) at += index[size_t(i)] * e.strides[size_t(i)];
    const int64_t converted = convert(e.type, from + size_t(at) * size_of(e.type), stride, length,
                                      to + size_t(done) * size_of(t.dtype()));
    if (converted < length)
      fail(ExitCode::checkpoint, "{}: tensor '{}': element {} does not fit into 32 bits",
           path().string(), name, done + converted);
    for (int i = outer - 1; i >= 0 && ++index[size_t(i)] == t.dim(i); --i) index[size_t(i)] = 0;
  }
  return t;
}

}  // namespace sg
