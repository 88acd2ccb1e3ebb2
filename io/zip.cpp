#include "io/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace sg {
namespace {

constexpr uint64_t kMaxDirectory = 100'000'000;
constexpr uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kEnd64Locator = 0x07064b50;
constexpr uint32_t kCentral = 0x02014b50, kLocal = 0x04034b50;

// A span of bytes that is read by little-endian fields; the caller has checked its size.
struct Fields {
  const char* data;
  template <class T>
  T at(size_t offset) const {
    T value;
    std::memcpy(&value, data + offset, sizeof value);
    return value;
  }
  uint16_t u16(size_t offset) const { return at<uint16_t>(offset); }
  uint32_t u32(size_t offset) const { return at<uint32_t>(offset); }
  uint64_t u64(size_t offset) const { return at<uint64_t>(offset); }
};

class Reader {
 public:
  explicit Reader(const InputFile& file) : file_(file) {}

  std::map<std::string, Zip::Entry> entries() {
    find_directory();
    const std::string directory = read(start_, size_);
    std::map<std::string, Zip::Entry> result;
    size_t at = 0;
    for (uint64_t i = 0; i < count_; ++i) at = read_entry(directory, at, result);
    if (at != size_) refuse("the directory holds more than its entries");
    check_overlap();
    return result;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    fail(file_.code(), "{}: not a whole zip file: {}; take another copy of it",
         file_.path().string(), what);
  }
  [[noreturn]] void refuse(const std::string& entry, std::string_view what) const {
    refuse(fmt::format("entry '{}' {}", entry, what));
  }

  std::string read(uint64_t offset, uint64_t bytes) const {
    if (offset > file_.size() || bytes > file_.size() - offset)
      refuse(fmt::format("bytes {} + {} lie outside the file", offset, bytes));
    std::string result(bytes, '\0');
    file_.read(offset, result.data(), bytes);
    return result;
  }

  void find_directory() {
    const uint64_t tail_size = std::min<uint64_t>(file_.size(), 22 + 65535);
    const std::string tail = read(file_.size() - tail_size, tail_size);
    for (size_t i = tail.size() >= 22 ? tail.size() - 22 + 1 : 0; i-- > 0;) {
      const Fields end{tail.data() + i};
      // The comment must reach to the end of the file: else it is no end record, or junk follows.
      if (end.u32(0) != kEnd || i + 22 + end.u16(20) != tail.size()) continue;
      if (end.u16(4) != 0 || end.u16(6) != 0 || end.u16(8) != end.u16(10))
        refuse("it is a part of several");
      count_ = end.u16(10), size_ = end.u32(12), start_ = end.u32(16);
      limit_ = file_.size() - tail_size + i;
      find_directory64();
      if (size_ > kMaxDirectory || start_ > limit_ || size_ != limit_ - start_)
        refuse("its directory does not end where it should");
      return;
    }
    refuse("no end record");
  }

  // PyTorch always writes the 64-bit records. Values that fit into 32 bits must agree.
  void find_directory64() {
    const std::string locator = limit_ >= 20 ? read(limit_ - 20, 20) : std::string(20, '\0');
    const Fields fields{locator.data()};
    if (fields.u32(0) != kEnd64Locator) return;
    const std::string record = read(fields.u64(8), 56);
    const Fields end{record.data()};
    const auto agree = [](uint64_t narrow, uint64_t all_ones, uint64_t wide) {
      return narrow == all_ones || narrow == wide;
    };
    if (end.u32(0) != kEnd64 || fields.u32(4) != 0 || fields.u32(16) != 1 || end.u32(16) != 0 ||
        end.u32(20) != 0 || end.u64(24) != end.u64(32) || !agree(count_, 0xffff, end.u64(32)) ||
        !agree(size_, 0xffffffff, end.u64(40)) || !agree(start_, 0xffffffff, end.u64(48)))
      refuse("its Zip64 end record is wrong");
    count_ = end.u64(32), size_ = end.u64(40), start_ = end.u64(48);
    limit_ = fields.u64(8);
  }

  size_t read_entry(const std::string& directory, size_t at,
                    std::map<std::string, Zip::Entry>& result) {
    const auto have = [&](size_t bytes) {
      if (bytes > directory.size() - at) refuse("its directory is cut");
    };
    have(46);
    const Fields head{directory.data() + at};
    if (head.u32(0) != kCentral) refuse("an entry of the directory does not start as one");
    const size_t name_size = head.u16(28), extra_size = head.u16(30), comment_size = head.u16(32);
    have(46 + name_size + extra_size + comment_size);
    const std::string name(head.data + 46, name_size);
    if (head.u16(8) & 0x2041) refuse(name, "is encrypted");
    check_name(name);

    Zip::Entry entry{.crc = head.u32(16)};
    uint64_t packed = head.u32(20), local = head.u32(42);
    entry.size = head.u32(24);
    read_extra64(name, {head.data + 46 + name_size, extra_size}, entry.size, packed, local);
    if (head.u16(10) != 0 || packed != entry.size)
      refuse(name, "is compressed, expected it to be stored");
    if (head.u16(34) != 0) refuse(name, "lies in another part");
    check_local(name, local, entry);
    if (!result.emplace(name, entry).second) refuse(name, "occurs twice");
    return at + 46 + name_size + extra_size + comment_size;
  }

  // 64-bit values replace those fields of the entry that are all ones, in this order.
  void read_extra64(const std::string& name, std::string_view extra, uint64_t& size,
                    uint64_t& packed, uint64_t& local) const {
    for (size_t at = 0; at + 4 <= extra.size();) {
      const Fields field{extra.data() + at};
      const size_t bytes = field.u16(2);
      if (bytes > extra.size() - at - 4) return;  // padding of some programs
      if (field.u16(0) == 1) {
        size_t used = 4;
        for (uint64_t* value : {&size, &packed, &local})
          if (*value == 0xffffffff) {
            if (used + 8 > bytes + 4) refuse(name, "lacks a Zip64 size");
            *value = field.u64(used);
            used += 8;
          }
        return;
      }
      at += 4 + bytes;
    }
  }

  void check_name(const std::string& name) const {
    bool bad =
        name.empty() || name[0] == '/' || name.find_first_of(std::string("\\\0", 2)) != name.npos;
    for (size_t i = 0; i <= name.size();) {
      const size_t end = std::min(name.find('/', i), name.size());
      bad |= name.compare(i, end - i, "..") == 0;
      i = end + 1;
    }
    if (bad) refuse(name, "has a name that is not allowed");
  }

  // The local header, whose sizes may be absent, says where the bytes begin.
  void check_local(const std::string& name, uint64_t local, Zip::Entry& entry) {
    const std::string head = read(local, 30);
    const Fields fields{head.data()};
    if (fields.u32(0) != kLocal || fields.u16(8) != 0 || read(local + 30, fields.u16(26)) != name)
      refuse(name, "differs from its local header");
    entry.offset = local + 30 + fields.u16(26) + fields.u16(28);
    if (entry.offset > start_ || entry.size > start_ - entry.offset)
      refuse(name, "lies outside the file");
    ranges_.emplace_back(local, entry.offset + entry.size);
  }

  void check_overlap() {
    std::ranges::sort(ranges_);
    for (size_t i = 1; i < ranges_.size(); ++i)
      if (ranges_[i].first < ranges_[i - 1].second) refuse("entries overlap");
  }

  const InputFile& file_;
  uint64_t count_ = 0, size_ = 0, start_ = 0;  // of the directory
  uint64_t limit_ = 0;                         // where it must end
  std::vector<std::pair<uint64_t, uint64_t>> ranges_;
};

}  // namespace

Zip::Zip(const InputFile& file) : file_(&file), entries_(Reader(file).entries()) {}

std::string Zip::read(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end())
    fail(file_->code(), "{}: holds no entry '{}'", file_->path().string(), name);
  const Entry& e = found->second;
  std::string bytes(e.size, '\0');
  file_->read(e.offset, bytes.data(), bytes.size());
  const auto crc = ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  if (crc != e.crc)
    fail(file_->code(), "{}: entry '{}': expected CRC-32 {:08x}, found {:08x}; take another copy",
         file_->path().string(), name, e.crc, crc);
  return bytes;
}

}  // namespace sg
