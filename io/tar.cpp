#include "io/tar.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "core/text.h"

namespace sg {
namespace {

constexpr size_t kWindow = 4096;
constexpr uint64_t kMaxText = 1 << 20;  // bytes of a long name or of pax records

// Fields of a header: where they begin, and their bytes.
struct Field {
  size_t at, bytes;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12},
    kTime{136, 12}, kChecksum{148, 8}, kType{156, 1}, kMagic{257, 8}, kPrefix{345, 155};

std::string_view part(std::string_view block, Field f) { return block.substr(f.at, f.bytes); }

// Up to the first zero byte.
std::string text_of(std::string_view field) {
  return std::string(field.substr(0, field.find('\0')));
}

// Octal digits between spaces, or GNU's base 256: the highest bit set, then a big-endian number.
std::optional<uint64_t> number_of(std::string_view field) {
  uint64_t value = 0;
  if (uint8_t(field[0]) == 0x80) {
    for (const char c : field.substr(1)) {
      if (value >> 56) return {};
      value = value << 8 | uint8_t(c);
    }
    return value;
  }
  const size_t begin = field.find_first_not_of(' ');
  if (begin == field.npos) return {};
  size_t i = begin;
  for (; i < field.size() && field[i] >= '0' && field[i] <= '7'; ++i)
    value = value << 3 | uint64_t(field[i] - '0');  // at most 12 digits, 36 bits
  if (i < field.size() && field[i] != ' ' && field[i] != '\0') return {};
  return i > begin || field[begin] == '\0' ? std::optional(value) : std::nullopt;
}

// The sum of all bytes, those of the checksum taken for spaces; some old programs summed signed.
template <class Byte>
int64_t sum_of(std::string_view block) {
  int64_t sum = 0;
  for (size_t i = 0; i < block.size(); ++i)
    sum += i - kChecksum.at < kChecksum.bytes ? ' ' : Byte(block[i]);
  return sum;
}

bool checksum_fits(std::string_view block) {
  const auto stored = number_of(part(block, kChecksum));
  return stored &&
         (int64_t(*stored) == sum_of<uint8_t>(block) || int64_t(*stored) == sum_of<int8_t>(block));
}

bool is_zero(std::string_view bytes) {
  return bytes.find_first_not_of('\0') == std::string_view::npos;
}

bool is_regular(char type) { return type == '0' || type == '\0' || type == '7'; }

// What a type of entry is that no data set needs.
std::string describe(char type) {
  switch (type) {
    case '1':
      return "a hard link";
    case '2':
      return "a symbolic link";
    case '3':
    case '4':
      return "a device";
    case '6':
      return "a named pipe";
    case 'S':
      return "a sparse file";
    case 'M':
    case 'V':
      return "a part of an archive of several volumes";
    default:
      return fmt::format("an entry of type '{}'", std::string(1, type));
  }
}

bool leaves_folder(std::string_view name) {
  if (name.starts_with('/')) return true;
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find('/', at), name.size());
    if (name.substr(at, end - at) == "..") return true;
    at = end + 1;
  }
  return false;
}

uint64_t padded(uint64_t size) { return (size + kTarBlock - 1) / kTarBlock * kTarBlock; }

}  // namespace

struct TarReader::Header {
  std::string name;
  uint64_t size;
  char type;
};

TarReader::TarReader(const InputFile& archive) : archive_(archive) {}

void TarReader::broken(uint64_t at, std::string_view what) const {
  fail(archive_.code(), "{}: at byte {}: {}", archive_.path().string(), at, what);
}

// Valid until the next call.
std::string_view TarReader::view(uint64_t offset, size_t bytes) {
  if (offset < window_at_ || offset + bytes > window_at_ + window_.size()) {
    window_at_ = offset;
    window_.resize(std::min<uint64_t>(std::max(bytes, kWindow), archive_.size() - offset));
    archive_.read(offset, window_.data(), window_.size());
  }
  return std::string_view(window_).substr(offset - window_at_, bytes);
}

std::string TarReader::read(const TarFile& file) {
  if (file.size > kMaxText)
    broken(file.offset, fmt::format("'{}': {} bytes; expected at most {}", escape_name(file.name),
                                    file.size, kMaxText));
  return std::string(view(file.offset, file.size));
}

TarReader::Header TarReader::header(std::string_view block) const {
  if (!checksum_fits(block))
    broken(at_,
           "expected the header of a file, found other bytes (its checksum is wrong): no tar "
           "archive, a compressed or a damaged one; unpack, copy or make it again");
  Header h{text_of(part(block, kName)), 0, block[kType.at]};
  // GNU has other things in place of the prefix.
  if (part(block, kMagic).starts_with(std::string_view("ustar\0", 6)))
    if (const std::string prefix = text_of(part(block, kPrefix)); !prefix.empty())
      h.name = prefix + "/" + h.name;
  const auto size = number_of(part(block, kSize));
  if (!size) broken(at_, fmt::format("'{}': its size is no number", escape_name(h.name)));
  h.size = *size;
  return h;
}

// "LENGTH KEY=VALUE\n", the length that of the whole record.
void TarReader::read_pax(std::string_view records, Overrides& next) const {
  while (!is_zero(records)) {
    const size_t space = records.find(' ');
    const auto length =
        space == records.npos ? std::nullopt : parse_integer(records.substr(0, space));
    if (!length || *length <= int64_t(space) + 1 || *length > int64_t(records.size()) ||
        records[size_t(*length) - 1] != '\n')
      broken(at_, "damaged pax records");
    const std::string_view record = records.substr(space + 1, size_t(*length) - space - 2);
    records.remove_prefix(size_t(*length));
    const size_t equal = record.find('=');
    if (equal == record.npos) broken(at_, "damaged pax records");
    const std::string_view key = record.substr(0, equal), value = record.substr(equal + 1);
    if (key == "path") next.name = std::string(value);
    if (key.starts_with("GNU.sparse."))
      broken(at_, "a sparse file; expected regular files; pack again without --sparse");
    if (key != "size") continue;
    const auto size = parse_integer(value);
    if (!size || *size < 0) broken(at_, "damaged pax records: the size is no number");
    next.size = uint64_t(*size);
  }
}

std::optional<TarFile> TarReader::next() {
  Overrides overrides;
  while (true) {
    if (at_ + kTarBlock > archive_.size())
      broken(archive_.size(),
             at_ == 0 ? "expected a tar archive, found less than one header"
                      : "the archive ends without an end mark: cut off; copy or make it again");
    const std::string_view block = view(at_, kTarBlock);
    if (is_zero(block)) {
      check_end();
      return {};
    }
    Header h = header(block);
    const bool text = h.type == 'x' || h.type == 'L' || h.type == 'K' || h.type == 'g';
    if (!text && overrides.size) h.size = *overrides.size;
    if (!text && overrides.name) h.name = *overrides.name;
    const uint64_t data = at_ + kTarBlock;
    if (h.size > archive_.size() - data)
      broken(at_, fmt::format("'{}' has {} bytes, but the archive ends after {} of them: cut off; "
                              "copy or make it again",
                              escape_name(h.name), h.size, archive_.size() - data));
    if (text) {
      if (h.size > kMaxText)
        broken(at_, fmt::format("a name or pax records of {} bytes; expected at most {}", h.size,
                                kMaxText));
      const std::string_view bytes = view(data, h.size);
      if (h.type == 'x') read_pax(bytes, overrides);
      if (h.type == 'L') overrides.name = text_of(bytes);
    } else if (h.type == '5' || (h.type == '\0' && h.name.ends_with('/'))) {
      h.size = 0;  // of a folder it may be anything
      overrides = {};
    } else if (!is_regular(h.type)) {
      broken(at_, fmt::format("'{}' is {}; expected regular files; pack again without it",
                              escape_name(h.name), describe(h.type)));
    } else {
      while (h.name.starts_with("./")) h.name.erase(0, 2);
      if (h.name.empty() || leaves_folder(h.name) || h.name.find('\0') != h.name.npos)
        broken(at_, fmt::format("'{}': expected a name within the archive; absolute names and '..' "
                                "are refused",
                                escape_name(h.name)));
      at_ = data + padded(h.size);
      return TarFile{std::move(h.name), data, h.size, tar_header_hash(block)};
    }
    at_ = data + padded(h.size);
  }
}

// One block of zeros is an end for other programs too. What follows it would be lost to them.
void TarReader::check_end() {
  for (uint64_t at = at_; at < archive_.size();) {
    const std::string_view rest =
        view(at, size_t(std::min<uint64_t>(kWindow, archive_.size() - at)));
    if (!is_zero(rest))
      broken(at,
             "data behind the end mark: archives that were put together by cat? unpack and "
             "pack them into one");
    at += rest.size();
  }
}

uint32_t tar_header_hash(std::string_view block) {
  return uint32_t(XXH3_64bits(block.data(), block.size()));
}

namespace {

std::string header_block(const std::string& name, uint64_t size, char type) {
  std::string block(kTarBlock, '\0');
  const auto put = [&](Field f, const std::string& text) {
    std::copy_n(text.begin(), std::min(text.size(), f.bytes), block.begin() + long(f.at));
  };
  put(kName, name), put(kMode, "0000644"), put(kUid, "0000000"), put(kGid, "0000000");
  put(kSize, fmt::format("{:011o}", size)), put(kTime, "00000000000");
  put(kType, std::string(1, type)), put(kMagic, std::string("ustar\00000", 8));
  put(kChecksum, fmt::format("{:06o}", sum_of<uint8_t>(block)) + std::string("\0 ", 2));
  return block;
}

}  // namespace

std::string tar_header(const std::string& name, uint64_t size) {
  check(!name.empty() && size < uint64_t{1} << 33, "tar: '{}' of {} bytes", name, size);
  std::string all;
  if (name.size() > kName.bytes) {
    const std::string record = " path=" + name + "\n";
    size_t length = record.size() + 1;  // with the digits of itself
    while (fmt::formatted_size("{}", length) + record.size() != length) ++length;
    all = header_block("pax", length, 'x') + fmt::format("{}{}", length, record) +
          tar_padding(length);
  }
  return all + header_block(name.substr(0, kName.bytes), size, '0');
}

std::string tar_padding(uint64_t size) { return std::string(padded(size) - size, '\0'); }

std::string tar_end() { return std::string(2 * kTarBlock, '\0'); }

}  // namespace sg
