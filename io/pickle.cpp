#include "io/pickle.h"

#include <bit>
#include <cstring>
#include <unordered_map>

#include "core/error.h"

namespace sg {
namespace {

using Node = Pickle::Node;
using Kind = Node::Kind;
using Items = std::vector<Node*>;

constexpr size_t kMaxNodes = 2'000'000;
constexpr size_t kMaxText = 16 << 20, kMaxName = 1000;
constexpr size_t kMaxMarks = 1000;  // nesting
// Of nodes, their texts and items: names may be put together from memoized ones, so that a small
// file would take gigabytes.
constexpr size_t kMaxBytes = 256 << 20;
constexpr size_t kMemoBytes = 48;  // an entry of the memo, about

class Machine {
 public:
  Machine(std::string_view bytes, const std::string& name, std::deque<Node>& nodes)
      : bytes_(bytes), name_(name), nodes_(nodes) {}

  const Node* run() {
    for (uint8_t opcode = number<uint8_t>(); opcode != '.'; opcode = number<uint8_t>())
      execute(opcode);
    if (stack_.size() != 1 || !marks_.empty()) refuse("it does not end in one value");
    return stack_[0];
  }
  size_t position() const { return at_; }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    fail(ExitCode::checkpoint, "{}: not a whole file of torch.save: pickle byte {}: {}", name_, at_,
         what);
  }

  void execute(uint8_t opcode) {
    switch (opcode) {
      case 0x80:  // PROTO
        if (number<uint8_t>() > 5) refuse("unknown protocol");
        break;
      case 0x95:  // FRAME: how many bytes come next, for readers of streams
        if (number<uint64_t>() > bytes_.size() - at_) refuse("it is cut");
        break;
      case '}':  // EMPTY_DICT
        push(Kind::dict);
        break;
      case ']':  // EMPTY_LIST
        push(Kind::list);
        break;
      case ')':  // EMPTY_TUPLE
        push(Kind::tuple);
        break;
      case 0x8f:  // EMPTY_SET
        push(Kind::set);
        break;
      case '(':  // MARK
        if (marks_.size() == kMaxMarks) refuse("it nests too deeply");
        marks_.push_back(stack_.size());
        break;
      case 'q':  // BINPUT
        memoize(number<uint8_t>());
        break;
      case 'r':  // LONG_BINPUT
        memoize(number<uint32_t>());
        break;
      case 0x94:  // MEMOIZE
        memoize(uint32_t(memo_.size()));
        break;
      case 'h':  // BINGET
        recall(number<uint8_t>());
        break;
      case 'j':  // LONG_BINGET
        recall(number<uint32_t>());
        break;
      case 'X':  // BINUNICODE
      case 'T':  // BINSTRING, of Python 2
        push_text(Kind::text, number<uint32_t>());
        break;
      case 0x8c:  // SHORT_BINUNICODE
      case 'U':   // SHORT_BINSTRING, of Python 2
        push_text(Kind::text, number<uint8_t>());
        break;
      case 0x8d:  // BINUNICODE8
        push_text(Kind::text, number<uint64_t>());
        break;
      case 'C':  // SHORT_BINBYTES
        push_text(Kind::bytes, number<uint8_t>());
        break;
      case 'B':  // BINBYTES
        push_text(Kind::bytes, number<uint32_t>());
        break;
      case 0x8e:  // BINBYTES8
      case 0x96:  // BYTEARRAY8
        push_text(Kind::bytes, number<uint64_t>());
        break;
      case 'K':  // BININT1
        push(Kind::integer).integer = number<uint8_t>();
        break;
      case 'M':  // BININT2
        push(Kind::integer).integer = number<uint16_t>();
        break;
      case 'J':  // BININT
        push(Kind::integer).integer = number<int32_t>();
        break;
      case 0x8a:  // LONG1
        push_long(take(number<uint8_t>()));
        break;
      case 0x8b:  // LONG4
        push_long(take(number<uint32_t>()));
        break;
      case 'G':  // BINFLOAT, big-endian
        push(Kind::real).real = std::bit_cast<double>(__builtin_bswap64(number<uint64_t>()));
        break;
      case 'N':  // NONE
        push(Kind::none);
        break;
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        push(Kind::boolean).boolean = opcode == 0x88;
        break;
      case 't':  // TUPLE
        push_items(Kind::tuple, pop_to_mark());
        break;
      case 0x85:  // TUPLE1
      case 0x86:  // TUPLE2
      case 0x87:  // TUPLE3
        push_items(Kind::tuple, pop(opcode - 0x84));
        break;
      case 'c': {  // GLOBAL
        const std::string_view module = line(), name = line();
        push_global(module, name);
        break;
      }
      case 0x93: {  // STACK_GLOBAL
        const Items names = pop(2);
        for (const Node* name : names)
          if (name->kind != Kind::text || name->text.size() > kMaxName)
            refuse("the name of a global is no text");
        push_global(names[0]->text, names[1]->text);
        break;
      }
      case 'R':   // REDUCE
      case 0x81:  // NEWOBJ
        push_items(Kind::call, pop(2));
        break;
      case 0x92:  // NEWOBJ_EX: keyword arguments come last
        pop(1);
        push_items(Kind::call, pop(2));
        break;
      case 'b':  // BUILD: the state of an object is of no use here
        pop(1);
        top();
        break;
      case 'Q':  // BINPERSID
        push_items(Kind::persistent, pop(1));
        break;
      case 's':  // SETITEM
        add(Kind::dict, pop(2));
        break;
      case 'u':  // SETITEMS
        add(Kind::dict, pop_to_mark());
        break;
      case 0x90:  // ADDITEMS
        add(Kind::set, pop_to_mark());
        break;
      case 0x91:  // FROZENSET
        push_items(Kind::set, pop_to_mark());
        break;
      case '0':  // POP
        pop(1);
        break;
      case '1':  // POP_MARK
        pop_to_mark();
        break;
      case '2':  // DUP
        push_again(top());
        break;
      case 'a':  // APPEND
        add(Kind::list, pop(1));
        break;
      case 'e':  // APPENDS
        add(Kind::list, pop_to_mark());
        break;
      default:
        refuse(fmt::format("opcode 0x{:02x} is not supported", opcode));
    }
  }

  std::string_view take(size_t bytes) {
    if (bytes > bytes_.size() - at_) refuse("it is cut");
    if (bytes > kMaxText) refuse("a text is too long");
    at_ += bytes;
    return bytes_.substr(at_ - bytes, bytes);
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == bytes_.npos || end - at_ > kMaxName) refuse("the name of a global does not end");
    const std::string_view text = take(end - at_);
    ++at_;
    return text;
  }

  // Before so much is made.
  void charge(size_t bytes) {
    if (bytes > kMaxBytes - made_)
      refuse(fmt::format("its values take more than {} MB", kMaxBytes >> 20));
    made_ += bytes;
  }
  Node& push(Kind kind) {
    charge(sizeof(Node));
    if (nodes_.size() == kMaxNodes) refuse(fmt::format("more than {} values", kMaxNodes));
    nodes_.push_back({.kind = kind});
    stack_.push_back(&nodes_.back());
    return nodes_.back();
  }
  void push_text(Kind kind, uint64_t bytes) {
    const std::string_view text = take(bytes);
    charge(text.size());
    push(kind).text = text;
  }
  void push_global(std::string_view module, std::string_view name) {
    charge(module.size() + name.size() + 1);
    push(Kind::global).text = fmt::format("{}.{}", module, name);
  }
  void push_items(Kind kind, const Items& items) {
    charge(items.size() * sizeof(Node*));
    push(kind).items.assign(items.begin(), items.end());
  }
  void push_long(std::string_view bytes) {
    if (bytes.size() > 8) {
      charge(bytes.size());
      push(Kind::big_integer).text = bytes;
      return;
    }
    uint64_t value = !bytes.empty() && bytes.back() < 0 ? ~uint64_t{0} : 0;  // the sign
    std::memcpy(&value, bytes.data(), bytes.size());
    push(Kind::integer).integer = int64_t(value);
  }
  void memoize(uint32_t index) {
    if (memo_.size() == kMaxNodes) refuse(fmt::format("more than {} values", kMaxNodes));
    charge(kMemoBytes);
    memo_[index] = top();
  }
  void recall(uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) refuse(fmt::format("memo {} is empty", index));
    push_again(found->second);
  }
  void push_again(Node* node) {
    // A stack of references alone could outgrow the file.
    if (stack_.size() == kMaxNodes) refuse(fmt::format("more than {} values", kMaxNodes));
    stack_.push_back(node);
  }

  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  Node* top() const {
    if (stack_.size() <= floor()) refuse("its stack is empty");
    return stack_.back();
  }
  Items pop(size_t count) {
    if (stack_.size() - floor() < count) refuse("its stack is empty");
    const Items items(stack_.end() - ptrdiff_t(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }
  Items pop_to_mark() {
    if (marks_.empty()) refuse("a mark is missing");
    const Items items = pop(stack_.size() - floor());
    marks_.pop_back();
    return items;
  }
  void add(Kind kind, const Items& items) {
    Node* const to = top();
    if (to->kind == Kind::call) {  // of whatever class: an OrderedDict, a defaultdict ...
      to->kind = kind;
      to->items.clear();
    }
    if (to->kind != kind || (kind == Kind::dict && items.size() % 2)) refuse("a wrong container");
    charge(items.size() * sizeof(Node*));
    to->items.insert(to->items.end(), items.begin(), items.end());
  }

  std::string_view bytes_;
  const std::string& name_;
  std::deque<Node>& nodes_;
  size_t at_ = 0, made_ = 0;  // bytes read, and bytes of what was made of them
  Items stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint32_t, Node*> memo_;
};

}  // namespace

Pickle::Pickle(std::string_view bytes, const std::string& name) {
  Machine machine(bytes, name, nodes_);
  root_ = machine.run();
  size_ = machine.position();
}

}  // namespace sg
