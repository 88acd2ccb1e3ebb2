// XXH3 (64 bits): tells damage, no attack.
#pragma once
#include <xxhash.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "io/file.h"

namespace sg {

class Hash {
 public:
  Hash() : state_(XXH3_createState(), XXH3_freeState) { XXH3_64bits_reset(state_.get()); }
  void add(const void* bytes, size_t size) { XXH3_64bits_update(state_.get(), bytes, size); }
  uint64_t digest() const { return XXH3_64bits_digest(state_.get()); }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

uint64_t hash_of(std::string_view bytes);
// Of the first `bytes` bytes of a file.
uint64_t hash_of(const InputFile& file, uint64_t bytes);

// As 16 hexadecimal digits.
std::string hex(uint64_t hash);

}  // namespace sg
