// Zip archives whose entries are stored, not compressed, as PyTorch writes them.
#pragma once
#include <map>
#include <string>

#include "io/file.h"

namespace sg {

// The archive's directory, checked in full: no encryption or compression, no name that leaves its
// folder or occurs twice, no entry outside the file or over another. Zip64 is understood.
class Zip {
 public:
  explicit Zip(const InputFile& file);  // keeps a reference to the file

  struct Entry {
    uint64_t offset = 0, size = 0;  // of the bytes in the file
    uint32_t crc = 0;
  };
  const std::map<std::string, Entry>& entries() const { return entries_; }
  // All bytes of an entry; an error where their CRC-32 differs.
  std::string read(const std::string& name) const;

 private:
  const InputFile* file_;
  std::map<std::string, Entry> entries_;
};

}  // namespace sg
