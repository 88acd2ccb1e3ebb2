// Tar archives, read in place: ustar, GNU's long names and sizes, pax.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "io/file.h"

namespace sg {

constexpr size_t kTarBlock = 512;  // headers and data begin at multiples of it

struct TarFile {
  std::string name;     // without "./" in front
  uint64_t offset = 0;  // of its bytes in the archive; its header lies right before
  uint64_t size = 0;
  uint32_t header = 0;  // tar_header_hash() of its header
};

// Goes through the regular files of an archive; folders are passed over. Throws the archive's error
// code, naming it and the byte, where it is cut off or damaged, has no end mark or something behind
// it, or holds what is no regular file (links, devices, sparse files) or a name that is absolute or
// has "..".
class TarReader {
 public:
  explicit TarReader(const InputFile& archive);  // keeps a reference
  // Nothing after the last.
  std::optional<TarFile> next();
  // The bytes of a small file.
  std::string read(const TarFile& file);

 private:
  struct Header;
  // Of long names and pax records, for the file that follows.
  struct Overrides {
    std::optional<std::string> name;
    std::optional<uint64_t> size;
  };

  [[noreturn]] void broken(uint64_t at, std::string_view what) const;
  std::string_view view(uint64_t offset, size_t bytes);
  Header header(std::string_view block) const;
  void read_pax(std::string_view records, Overrides& next) const;
  void check_end();

  const InputFile& archive_;
  uint64_t at_ = 0;  // of the next header
  // A part of the archive: headers and labels lie near each other.
  std::string window_;
  uint64_t window_at_ = 0;
};

// Changes with name, size, time and all else in the header of a file.
uint32_t tar_header_hash(std::string_view block);

// The header of a file, for TarReader and every other program: ustar, after a pax record where the
// name needs one. What follows are the bytes, zeros up to a multiple of kTarBlock, and after the
// last file tar_end().
std::string tar_header(const std::string& name, uint64_t size);
std::string tar_padding(uint64_t size);
std::string tar_end();

}  // namespace sg
