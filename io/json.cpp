#include "io/json.h"

#include <set>
#include <string>
#include <vector>

#include "core/text.h"

namespace sg {

nlohmann::json parse_json(std::string_view text, std::string_view name, ExitCode code,
                          bool comments) {
  using Event = nlohmann::json::parse_event_t;
  constexpr int kMaxDepth = 64;
  if (text.find('\0') != text.npos) fail(code, "{}: JSON holds a zero byte", name);
  std::vector<std::set<std::string>> keys;  // of each object that is open
  const auto check_event = [&](int depth, Event event, nlohmann::json& value) {
    if (depth > kMaxDepth) fail(code, "{}: JSON nests more than {} levels", name, kMaxDepth);
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.get<std::string>()).second)
      fail(code, "{}: JSON key '{}' occurs twice", name, value.get<std::string>());
    return true;
  };
  try {
    return nlohmann::json::parse(text, check_event, true, comments);
  } catch (const nlohmann::json::exception& e) {
    fail(code, "{}: not valid JSON: {}", name, e.what());
  }
}

nlohmann::json image_size_to_json(const ImageSize& size) {
  if (size.height == size.width) return size.height;
  return fmt::format("{} {}", size.height, size.width);
}

std::optional<ImageSize> image_size_from_json(const nlohmann::json& json) {
  if (json.is_number_integer()) return parse_image_size(json.dump());
  if (json.is_string()) return parse_image_size(json.get<std::string>());
  if (!json.is_array() || json.size() != 2) return {};
  return parse_image_size(fmt::format("{} {}", json[0].dump(), json[1].dump()));
}

}  // namespace sg
