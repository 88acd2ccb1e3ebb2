// What the ranks of an evaluation have found, on all of them.
#pragma once
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <type_traits>
#include <vector>

#include "dist/group.h"

namespace sg::tasks {

// Values as bytes in a part of what is gathered; and read back, at the end of others.
template <class T>
nlohmann::json to_binary(std::span<const T> values) {
  static_assert(std::is_trivially_copyable_v<T>);
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  return nlohmann::json::binary({bytes, bytes + values.size_bytes()});
}
template <class T>
void append(std::vector<T>& values, const nlohmann::json& binary) {
  const auto& bytes = binary.get_binary();
  const size_t before = values.size();
  values.resize(before + bytes.size() / sizeof(T));
  std::memcpy(values.data() + before, bytes.data(), (values.size() - before) * sizeof(T));
}

// f(what a rank gives) of each rank, in their order. Collective.
template <class F>
void gather(dist::Group& group, const nlohmann::json& mine, F&& f) {
  std::string text;
  nlohmann::json::to_cbor(mine, text);
  for (const std::string& of_rank : group.all_gather("evaluation", text))
    f(nlohmann::json::from_cbor(of_rank));
}

}  // namespace sg::tasks
