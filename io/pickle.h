// Python pickles read as inert data. Nothing is ever imported, called or built: a global is its
// name, a call is a node that holds the name and the arguments.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace sg {

class Pickle {
 public:
  struct Node {
    enum class Kind : uint8_t {
      none,
      boolean,
      integer,
      big_integer,  // text holds its little-endian two's complement
      real,
      text,
      bytes,  // text holds them
      tuple,
      list,
      dict,  // items: key, value, key, value ...; any object that was given such items
      set,
      global,      // text: "module.name"
      call,        // items: callable, arguments; keyword arguments and state are dropped
      persistent,  // items: the id of something stored outside the pickle
    };
    Kind kind = Kind::none;
    bool boolean = false;
    int64_t integer = 0;
    double real = 0;
    std::string text;
    std::vector<const Node*> items;  // may form cycles
  };

  // Reads one pickle at the start of `bytes`. Errors are ExitCode::checkpoint, start with `name`.
  // Known are the opcodes of protocols 2 to 5, less those that ask for code outside of the pickle
  // (extension codes, buffers beside it); the number of nodes and the
  // bytes of all that is made are capped.
  Pickle(std::string_view bytes, const std::string& name);
  Pickle(Pickle&&) = default;  // nodes refer to each other, so there is no copy

  const Node& root() const { return *root_; }
  const std::deque<Node>& nodes() const { return nodes_; }  // all of them, in order
  size_t size() const { return size_; }                     // bytes read

 private:
  std::deque<Node> nodes_;
  const Node* root_ = nullptr;
  size_t size_ = 0;
};

}  // namespace sg
