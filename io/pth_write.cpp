#include "io/pth_write.h"

#include <zlib.h>

#include <algorithm>
#include <set>
#include <string>

#include "io/pth_entries.h"

namespace sg {
namespace {

// Little-endian numbers and texts, one behind the other.
class Bytes {
 public:
  template <class T>
  Bytes& number(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& u16(uint16_t value) { return number(value); }
  Bytes& u32(uint32_t value) { return number(value); }
  Bytes& text(std::string_view text) {
    text_ += text;
    return *this;
  }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

// Entries are stored, not compressed, and their bytes begin at multiples of 64, by padding in the
// extra field: so torch.load can map them into memory.
class ZipWriter {
 public:
  explicit ZipWriter(const ByteSink& sink) : sink_(sink) {}

  void add(std::string_view name, const void* data, size_t size) {
    constexpr size_t kHeader = 30, kAlignment = 64;
    const uint64_t begin = at_;
    const size_t unpadded = begin + kHeader + name.size() + 4;
    const auto padding = uint16_t((kAlignment - unpadded % kAlignment) % kAlignment);
    check(begin + size < kMaxSize && count_ < 0xffff,
          "write_pth: more than 4 GiB or 65000 tensors; write safetensors instead");
    Bytes common;  // of both headers: version, flags, method, 1980-01-01 00:00, CRC, sizes, name
    common.u16(20).u16(0).u16(0).u16(0).u16(0x21);
    common.u32(uint32_t(::crc32_z(0, static_cast<const Bytef*>(data), size)));
    common.u32(uint32_t(size)).u32(uint32_t(size)).u16(uint16_t(name.size()));
    Bytes local;
    local.text("PK\3\4").text(common.str()).u16(uint16_t(4 + padding)).text(name);
    local.text("FB").u16(padding).text(std::string(padding, 'Z'));
    write(local.str());
    sink_(data, size);
    at_ += size;
    directory_.text("PK\1\2").u16(20).text(common.str()).u16(0);
    directory_.u16(0).u16(0).u16(0).u32(0).u32(uint32_t(begin)).text(name);
    ++count_;
  }
  void add(std::string_view name, std::string_view text) { add(name, text.data(), text.size()); }

  void finish() {
    const uint64_t begin = at_, size = directory_.str().size();
    check(begin + size < kMaxSize, "write_pth: more than 4 GiB; write safetensors instead");
    write(directory_.str());
    Bytes end;
    end.text("PK\5\6").u16(0).u16(0).u16(count_).u16(count_);
    write(end.u32(uint32_t(size)).u32(uint32_t(begin)).u16(0).str());
  }

 private:
  static constexpr uint64_t kMaxSize = 0xffffffff;

  void write(const std::string& bytes) {
    sink_(bytes.data(), bytes.size());
    at_ += bytes.size();
  }

  const ByteSink& sink_;
  uint64_t at_ = 0;
  uint16_t count_ = 0;
  Bytes directory_;
};

// Protocol 2, as torch.save; without memo, which only makes it shorter.
class PickleWriter {
 public:
  PickleWriter& code(std::string_view opcodes) {
    out_.text(opcodes);
    return *this;
  }
  PickleWriter& text(std::string_view text) {
    out_.text("X").u32(uint32_t(text.size())).text(text);
    return *this;
  }
  PickleWriter& global(std::string_view module, std::string_view name) {
    out_.text("c").text(module).text("\n").text(name).text("\n");
    return *this;
  }
  PickleWriter& integer(int64_t value) {
    if (value == int32_t(value))
      out_.text("J").number(int32_t(value));
    else
      out_.text("\x8a\x08").number(value);
    return *this;
  }
  PickleWriter& tuple(const std::vector<int64_t>& values) {
    code("(");
    for (const int64_t value : values) integer(value);
    return code("t");
  }
  const std::string& str() const { return out_.str(); }

 private:
  Bytes out_;
};

// torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks)
void pickle_tensor(PickleWriter& out, const Tensor& tensor, StoredType type, size_t key) {
  std::vector<int64_t> sizes, strides(size_t(tensor.dims()));
  for (int i = 0; i < tensor.dims(); ++i) sizes.push_back(tensor.dim(i));
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0; stride *= std::max<int64_t>(sizes[i], 1))
    strides[i] = stride;
  out.global("torch._utils", "_rebuild_tensor_v2").code("((");
  out.text("storage").global("torch", storage_class(type)).text(std::to_string(key)).text("cpu");
  out.integer(tensor.numel()).code("tQ").integer(0).tuple(sizes).tuple(strides);
  out.code("\x89").global("collections", "OrderedDict").code(")RtR");
}

}  // namespace

void write_pth(const ByteSink& sink, const std::vector<NamedTensor>& tensors,
               std::optional<StoredType> type) {
  PickleWriter pickle;
  pickle.code("\x80\x02").global("collections", "OrderedDict").code(")R(");
  std::set<std::string_view> names;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    check(tensor.defined() && tensor.device() == Device{} && names.insert(name).second,
          "write_pth: tensor '{}': its name occurs twice, or it is not on the CPU", name);
    pickle.text(name);
    pickle_tensor(pickle, tensor, stored_type(tensor.dtype(), type), i);
  }
  pickle.code("u.");

  ZipWriter zip(sink);
  zip.add("archive/data.pkl", pickle.str());
  zip.add("archive/byteorder", "little");
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    const auto bytes = encode(name, tensor, stored_type(tensor.dtype(), type));
    zip.add("archive/data/" + std::to_string(i), bytes.data(), bytes.size());
  }
  zip.add("archive/version", "3\n");
  zip.finish();
}

}  // namespace sg
