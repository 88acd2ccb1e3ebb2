// XXH3 of many parts: tells damage, no attack.
#pragma once
#include <xxhash.h>

#include <cstdint>
#include <memory>

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

// Of the first `bytes` bytes of a file.
uint64_t hash_of(const InputFile& file, uint64_t bytes);

}  // namespace sg
