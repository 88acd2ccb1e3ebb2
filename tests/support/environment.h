// An environment variable with another value, or without one, until the end of the scope.
#pragma once
#include <cstdlib>
#include <optional>
#include <string>

namespace sg::test {

class Environment {
 public:
  // Nothing: the variable is unset.
  Environment(const char* name, const std::optional<std::string>& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    set(value);
  }
  ~Environment() { set(before_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  void set(const std::optional<std::string>& value) {
    value ? ::setenv(name_, value->c_str(), 1) : ::unsetenv(name_);
  }

  const char* name_;
  std::optional<std::string> before_;
};

}  // namespace sg::test
