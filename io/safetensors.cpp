#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "io/file_kind.h"

namespace sg {
namespace {

struct TypeName {
  std::string_view name;
  StoredType type;
};
constexpr TypeName kTypeNames[] = {{"F32", StoredType::f32}, {"BF16", StoredType::bf16},
                                   {"F64", StoredType::f64}, {"I32", StoredType::i32},
                                   {"U8", StoredType::u8},   {"F16", StoredType::f16},
                                   {"I64", StoredType::i64}, {"I16", StoredType::i16},
                                   {"I8", StoredType::i8},   {"BOOL", StoredType::boolean}};

// The header as a stream of events: a document tree would keep the last of two equal keys
// silently, and overflow the stack on deep nesting.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  Metadata metadata;
  std::vector<Safetensors::Entry> entries;
  std::string error;

  bool start_object(size_t) override {
    if (place_ == Place::start) return enter(Place::top);
    if (place_ != Place::top) return wrong("an object");
    if (key_ == "__metadata__") return enter(Place::metadata);
    entry_ = {.name = key_};
    fields_.clear();
    return enter(Place::tensor);
  }
  bool end_object() override {
    if (place_ == Place::tensor) {
      if (fields_.size() != 3) return refuse("expected dtype, shape and data_offsets");
      if (!check_entry()) return false;
      entries.push_back(entry_);
    }
    return enter(place_ == Place::top ? Place::end : Place::top);
  }
  bool key(string_t& key) override {
    if (place_ == Place::top) {
      key_ = key;
      field_.clear();
      return names_.insert(key).second || refuse("the name occurs twice");
    }
    field_ = key;
    if (place_ == Place::metadata)
      return !metadata.contains(key) || refuse(fmt::format("key '{}' occurs twice", key));
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      return refuse(fmt::format("field '{}' is unknown", key));
    return fields_.insert(key).second || refuse(fmt::format("field '{}' occurs twice", key));
  }
  bool string(string_t& text) override {
    if (place_ == Place::metadata) return metadata.emplace(field_, text).second;
    if (place_ != Place::tensor || field_ != "dtype") return wrong("a string");
    for (const TypeName& t : kTypeNames)
      if (t.name == text) {
        entry_.type = t.type;
        return true;
      }
    return refuse(fmt::format("dtype {} is not supported; convert it to F32", text));
  }
  bool start_array(size_t) override {
    if (place_ != Place::tensor || field_ == "dtype") return wrong("a list");
    numbers_.clear();
    return enter(Place::list);
  }
  bool number_unsigned(number_unsigned_t number) override {
    if (place_ != Place::list) return wrong("a number");
    numbers_.push_back(number);
    // Also keeps a list of millions from growing in memory.
    return numbers_.size() <= Shape::kMaxDims ||
           refuse(fmt::format("{}: more than {} numbers", field_, Shape::kMaxDims));
  }
  bool end_array() override {
    if (field_ == "data_offsets") {
      if (numbers_.size() != 2) return refuse("data_offsets: expected two numbers");
      entry_.begin = numbers_[0], entry_.end = numbers_[1];
    } else if (!read_shape()) {
      return refuse(fmt::format("shape ({}) is too large", fmt::join(numbers_, ", ")));
    }
    return enter(Place::tensor);
  }
  bool null() override {
    // As the format's own library reads it: no metadata.
    return (place_ == Place::top && key_ == "__metadata__") || wrong("null");
  }
  bool boolean(bool) override { return wrong("a boolean"); }
  bool number_integer(number_integer_t) override { return wrong("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return wrong("a fraction"); }
  bool binary(binary_t&) override { return wrong("binary data"); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception& e) override {
    error = fmt::format("header byte {}: {}", position, e.what());
    return false;
  }

 private:
  enum class Place { start, top, metadata, tensor, list, end };

  bool enter(Place place) {
    place_ = place;
    return true;
  }
  bool refuse(const std::string& what) {
    if (place_ == Place::start)
      error = "header: " + what;
    else if (key_ == "__metadata__")
      error = "header: __metadata__: " + what;
    else
      error = fmt::format("tensor '{}': {}", key_, what);
    return false;
  }
  bool wrong(std::string_view found) {
    return refuse(fmt::format("{}: found {}", field_.empty() ? "value" : field_, found));
  }
  bool read_shape() {
    entry_.shape = {};
    int64_t numel = 1;
    for (uint64_t dim : numbers_) {
      if (dim > INT64_MAX || __builtin_mul_overflow(numel, int64_t(dim), &numel)) return false;
      entry_.shape.push_back(int64_t(dim));
    }
    return true;
  }
  bool check_entry() {
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(uint64_t(entry_.shape.numel()), size_of(entry_.type), &bytes))
      return refuse(fmt::format("shape {} is too large", entry_.shape.str()));
    return (entry_.begin <= entry_.end && entry_.end - entry_.begin == bytes) ||
           refuse(fmt::format("shape {} needs {} bytes, data_offsets are [{}, {}]",
                              entry_.shape.str(), bytes, entry_.begin, entry_.end));
  }

  Place place_ = Place::start;
  std::string key_, field_;  // innermost keys of the outer and the inner object
  std::set<std::string> names_, fields_;
  std::vector<uint64_t> numbers_;
  Safetensors::Entry entry_;
};

}  // namespace

Safetensors Safetensors::open(const std::filesystem::path& path) {
  Safetensors result(path);
  const InputFile& file = result.file_;
  const auto refuse = [&](const std::string& what) {
    fail(ExitCode::checkpoint, "{}: not a whole safetensors file: {}; take another copy of it",
         path.string(), what);
  };

  if (const FileKind kind = kind_of(file); kind != FileKind::safetensors)
    fail(ExitCode::checkpoint, "{}: expected a safetensors file, found {}", path.string(),
         name_of(kind));
  uint64_t length = 0;
  file.read(0, &length, 8);
  if (length > file.size() - 8)
    refuse(fmt::format("header: its length {} exceeds {}", length, file.size() - 8));
  std::string header(length, '\0');
  file.read(8, header.data(), length);
  // The parser takes a zero byte for the end of the text.
  if (header.find('\0') != std::string::npos) refuse("header: it holds a zero byte");

  HeaderReader reader;
  if (!nlohmann::json::sax_parse(header, &reader)) refuse(reader.error);
  result.metadata_ = std::move(reader.metadata);
  result.entries_ = std::move(reader.entries);

  std::ranges::stable_sort(result.entries_, {},
                           [](const Entry& e) { return std::pair(e.begin, e.end); });
  const uint64_t start = 8 + length, size = file.size() - start;
  uint64_t end = 0;
  for (size_t i = 0; i < result.entries_.size(); ++i) {
    Entry& e = result.entries_[i];
    if (e.begin != end || e.end > size)
      refuse(fmt::format("tensor '{}': expected its bytes at {} and within {}, found [{}, {}]",
                         e.name, end, size, e.begin, e.end));
    end = e.end;
    e.begin += start, e.end += start;
    result.index_.emplace(e.name, i);
  }
  if (end != size) refuse(fmt::format("expected {} bytes of tensors, found {}", end, size));
  return result;
}

std::vector<std::string> Safetensors::names() const {
  std::vector<std::string> names;
  for (const Entry& e : entries_) names.push_back(e.name);
  return names;
}

const Safetensors::Entry& Safetensors::entry(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end())
    fail(ExitCode::checkpoint, "{}: holds no tensor '{}'", path().string(), name);
  return entries_[found->second];
}

Tensor Safetensors::tensor(const std::string& name) const {
  const Entry& e = entry(name);
  Tensor t = empty(e.shape, dtype_of(e.type));
  const size_t from_size = size_of(e.type), to_size = size_of(t.dtype());
  std::byte* to = static_cast<std::byte*>(t.raw());
  // Straight into place where nothing is converted.
  const bool direct = from_size == to_size && e.type != StoredType::boolean;
  std::vector<std::byte> buffer(direct ? 0 : e.end - e.begin);
  file_.read(e.begin, direct ? to : buffer.data(), e.end - e.begin);
  if (direct) return t;
  if (const int64_t i = convert(e.type, buffer.data(), 1, t.numel(), to); i < t.numel())
    fail(ExitCode::checkpoint, "{}: tensor '{}': element {} does not fit into 32 bits",
         path().string(), name, i);
  return t;
}

void write_safetensors(const ByteSink& sink, const std::vector<NamedTensor>& tensors,
                       const Metadata& metadata, std::optional<StoredType> wanted) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& t : tensors) order.push_back(&t);
  const auto type_of = [&](const Tensor& tensor) { return stored_type(tensor.dtype(), wanted); };
  std::ranges::stable_sort(order, std::greater(),
                           [&](const NamedTensor* t) { return size_of(type_of(t->second)); });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string> names;
  uint64_t end = 0;
  for (const NamedTensor* named : order) {
    const auto& [name, tensor] = *named;
    check(tensor.defined() && tensor.device() == Device{}, "write_safetensors: tensor '{}': {}",
          name, tensor.defined() ? "must be on the CPU" : "is undefined");
    check(name != "__metadata__" && names.insert(name).second,
          "write_safetensors: the name '{}' occurs twice or is reserved", name);
    const auto type = std::ranges::find(kTypeNames, type_of(tensor), &TypeName::type);
    const uint64_t bytes = uint64_t(tensor.numel()) * size_of(type->type);
    std::vector<int64_t> shape;
    for (int i = 0; i < tensor.dims(); ++i) shape.push_back(tensor.dim(i));
    header[name] = {{"dtype", type->name}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  }

  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception& e) {
    fail(ExitCode::failure, "write_safetensors: a name or metadata is not UTF-8: {}", e.what());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  check(length <= kMaxSafetensorsHeader, "write_safetensors: a header of {} bytes is too long",
        length);
  sink(&length, sizeof length);
  sink(text.data(), text.size());
  for (const NamedTensor* t : order) {
    const auto& [name, tensor] = *t;
    if (tensor.numel() == 0) continue;
    if (type_of(tensor) == StoredType(tensor.dtype())) {
      sink(tensor.raw(), tensor.bytes());
    } else {
      const std::vector<std::byte> bytes = encode(name, tensor, type_of(tensor));
      sink(bytes.data(), bytes.size());
    }
  }
}

void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const Metadata& metadata) {
  AtomicFile file(path, ExitCode::checkpoint);
  write_safetensors([&](const void* data, size_t bytes) { file.write(data, bytes); }, tensors,
                    metadata);
  file.commit();
}

}  // namespace sg
