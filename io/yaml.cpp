#include "io/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <cmath>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/text.h"
#include "io/json.h"

namespace sg {
namespace {

constexpr size_t kMaxBytes = 1 << 16, kMaxDepth = 64;

// Of what is not quoted.
nlohmann::json scalar_of(const std::string& text) {
  for (const char* yes : {"true", "True", "TRUE"})
    if (text == yes) return true;
  for (const char* no : {"false", "False", "FALSE"})
    if (text == no) return false;
  if (const auto whole = parse_integer(text)) return *whole;
  if (const auto number = parse_number(text); number && std::isfinite(*number)) return *number;
  return text;
}

// Builds the document from the parser's events. Its own tree of nodes would follow aliases, by
// which a short text can mean a huge document.
class Builder final : public YAML::EventHandler {
 public:
  Builder(std::string_view name, ExitCode code) : name_(name), code_(code) {}
  nlohmann::json take() { return std::move(document_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++) refuse(mark, "a second document begins; expected one");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(mark, nullptr); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "an alias (*name); write its value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    check_tag(mark, tag);
    if (!open_.empty() && open_.back().value.is_object() && !open_.back().key) {
      if (open_.back().value.contains(value))
        refuse(mark, fmt::format("the key '{}' occurs twice", value));
      open_.back().key = value;
    } else {
      add(mark, tag == "?" ? scalar_of(value) : nlohmann::json(value));
    }
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    begin(mark, tag, nlohmann::json::array());
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    begin(mark, tag, nlohmann::json::object());
  }
  void OnMapEnd() override { end(); }

 private:
  struct Open {
    YAML::Mark mark;
    nlohmann::json value;
    std::optional<std::string> key{};  // of an object, whose value comes next
  };

  [[noreturn]] void refuse(const YAML::Mark& mark, std::string_view what) const {
    fail(code_, "{}: line {}: {}", name_, mark.line + 1, what);
  }
  void check_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (!tag.empty() && tag != "?" && tag != "!")
      refuse(mark, fmt::format("a tag ({}); expected none", tag));
  }
  void begin(const YAML::Mark& mark, const std::string& tag, nlohmann::json value) {
    check_tag(mark, tag);
    if (open_.size() == kMaxDepth) refuse(mark, fmt::format("more than {} levels", kMaxDepth));
    open_.push_back({mark, std::move(value)});
  }
  void end() {
    Open done = std::move(open_.back());
    open_.pop_back();
    add(done.mark, std::move(done.value));
  }
  void add(const YAML::Mark& mark, nlohmann::json value) {
    if (open_.empty()) {
      document_ = std::move(value);
    } else if (Open& in = open_.back(); in.value.is_array()) {
      in.value.push_back(std::move(value));
    } else if (in.key) {
      in.value[*in.key] = std::move(value);
      in.key.reset();
    } else {
      refuse(mark, "a key that is no text");
    }
  }

  std::string_view name_;
  ExitCode code_;
  std::vector<Open> open_;  // the innermost last
  nlohmann::json document_;
  int documents_ = 0;
};

}  // namespace

nlohmann::json parse_yaml(std::string_view text, std::string_view name, ExitCode code) {
  if (text.size() > kMaxBytes)
    fail(code, "{}: expected a configuration of at most {} bytes, found {}", name, kMaxBytes,
         text.size());
  if (escape_odd_bytes(text) != text || text.find('\0') != text.npos)
    fail(code, "{}: expected YAML in UTF-8, found other bytes", name);
  std::istringstream stream{std::string(text)};
  Builder builder(name, code);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& e) {
    fail(code, "{}: line {}, column {}: not valid YAML: {}", name, e.mark.line + 1,
         e.mark.column + 1, e.msg);
  }
  return builder.take();
}

nlohmann::json parse_config(std::string_view text, std::string_view name, ExitCode code) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  const bool json = begin != text.npos && text[begin] == '{';
  return json ? parse_json(text, name, code) : parse_yaml(text, name, code);
}

}  // namespace sg
