#include "io/hash.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

namespace sg {

uint64_t hash_of(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t hash_of(const InputFile& file, uint64_t bytes) {
  Hash hash;
  std::vector<char> part(1 << 20);
  for (uint64_t at = 0; at < bytes; at += part.size()) {
    const auto n = size_t(std::min<uint64_t>(part.size(), bytes - at));
    file.read(at, part.data(), n);
    hash.add(part.data(), n);
  }
  return hash.digest();
}

std::string hex(uint64_t hash) { return fmt::format("{:016x}", hash); }

}  // namespace sg
