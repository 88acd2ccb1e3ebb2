#include "io/pth_entries.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace sg {
namespace {

using Node = Pickle::Node;
using Kind = Node::Kind;

constexpr int kMaxDepth = 64;
constexpr size_t kMaxVisits = 2'000'000;  // a list of lists of one list grows without end
constexpr size_t kMaxName = 1000;
constexpr size_t kMaxBytes = 256 << 20;  // of what is found, names and all
constexpr size_t kMaxIntegers = 1000;    // of a shape; each visit would read them again

struct StorageType {
  std::string_view name;
  StoredType type;
};
constexpr StorageType kStorageTypes[] = {
    {"torch.FloatStorage", StoredType::f32}, {"torch.DoubleStorage", StoredType::f64},
    {"torch.HalfStorage", StoredType::f16},  {"torch.BFloat16Storage", StoredType::bf16},
    {"torch.LongStorage", StoredType::i64},  {"torch.IntStorage", StoredType::i32},
    {"torch.ShortStorage", StoredType::i16}, {"torch.CharStorage", StoredType::i8},
    {"torch.ByteStorage", StoredType::u8},   {"torch.BoolStorage", StoredType::boolean}};

bool is_call(const Node& node, std::string_view name) {
  return node.kind == Kind::call && node.items[0]->text.starts_with(name);
}

// A tuple of integers, or torch.Size of one.
bool read_integers(const Node& node, std::vector<int64_t>& out) {
  if (is_call(node, "torch.Size"))
    return node.items[1]->items.size() == 1 && node.items[1]->items[0]->kind == Kind::tuple &&
           read_integers(*node.items[1]->items[0], out);
  if (node.kind != Kind::tuple || node.items.size() > kMaxIntegers) return false;
  for (const Node* item : node.items) {
    if (item->kind != Kind::integer) return false;
    out.push_back(item->integer);
  }
  return true;
}

// The last element that the tensor reaches lies in its storage. False too where a size overflows.
bool fits(const PthEntry& e) {
  int64_t last = e.offset;
  if (e.offset < 0) return false;
  for (size_t i = 0; i < e.strides.size(); ++i) {
    int64_t reach;
    if (e.strides[i] < 0 || e.shape[int(i)] == 0) return e.strides[i] >= 0;
    if (__builtin_mul_overflow(e.shape[int(i)] - 1, e.strides[i], &reach) ||
        __builtin_add_overflow(last, reach, &last))
      return false;
  }
  return last < e.storage_numel;
}

// What wraps the call that makes a tensor: functions whose first argument is the tensor, and those
// that are given (function, class, its arguments, state), where the class adds nothing to the
// values.
constexpr std::string_view kOfTensor[] = {"torch._utils._rebuild_parameter",
                                          "torch._utils._rebuild_parameter_with_state",
                                          "torch._utils._rebuild_device_tensor_from_cpu_tensor"};
constexpr std::string_view kOfFunction[] = {"torch._tensor._rebuild_from_type_v2",
                                            "torch._tensor._rebuild_from_type"};
constexpr std::string_view kTensor[] = {"torch._utils._rebuild_tensor",
                                        "torch._utils._rebuild_tensor_v2"};
constexpr int kMaxWrappers = 8;

struct Call {
  const Node* function;
  const Node* arguments;
};

// The innermost call, of one of kTensor where the file is as it should be.
Call unwrap(const Node& node) {
  Call call{node.items[0], node.items[1]};
  for (int i = 0; i < kMaxWrappers; ++i) {
    const std::vector<const Node*>& arguments = call.arguments->items;
    const auto is_one_of = [&](const auto& names) {
      return std::ranges::find(names, std::string_view(call.function->text)) != std::end(names);
    };
    if (is_one_of(kOfTensor) && !arguments.empty() && arguments[0]->kind == Kind::call)
      call = {arguments[0]->items[0], arguments[0]->items[1]};
    else if (is_one_of(kOfFunction) && arguments.size() >= 3 && arguments[2]->kind == Kind::tuple)
      call = {arguments[0], arguments[2]};
    else
      break;
  }
  return call;
}

// The arguments of torch._utils._rebuild_tensor_v2; the result is a problem or "".
std::string read_tensor(const Node& node, PthEntry& e) {
  const Call call = unwrap(node);
  if (std::ranges::find(kTensor, std::string_view(call.function->text)) == std::end(kTensor))
    return fmt::format("it is made by {}, which is not supported", call.function->text);
  const std::vector<const Node*>& arguments = call.arguments->items;
  if (arguments.size() < 4 || arguments[1]->kind != Kind::integer ||
      !read_storage(*arguments[0], e))
    return "its storage is of no supported type";
  e.offset = arguments[1]->integer;
  std::vector<int64_t> sizes;
  if (!read_integers(*arguments[2], sizes) || !read_integers(*arguments[3], e.strides) ||
      sizes.size() != e.strides.size())
    return "its shape or strides are not integers";
  if (sizes.size() > Shape::kMaxDims)
    return fmt::format("it has more than {} dimensions", Shape::kMaxDims);
  int64_t numel = int64_t(size_of(e.type));
  for (int64_t size : sizes)
    if (size < 0 || __builtin_mul_overflow(numel, size, &numel))
      return fmt::format("shape ({}) is negative or too large", fmt::join(sizes, ", "));
  for (int64_t size : sizes) e.shape.push_back(size);
  if (!fits(e))
    return fmt::format("shape {}, strides ({}), offset {} leave its storage of {} elements",
                       e.shape.str(), fmt::join(e.strides, ", "), e.offset, e.storage_numel);
  return "";
}

class Walk {
 public:
  explicit Walk(const std::string& file) : file_(file) {}
  std::vector<std::pair<std::string, PthEntry>> found;

  void visit(const Node& node, const std::string& name, int depth) {
    if (depth > kMaxDepth || name.size() > kMaxName) refuse(name);
    count_visit(name);
    switch (node.kind) {
      case Kind::dict:
        for (size_t i = 0; i < node.items.size(); i += 2)
          visit_item(*node.items[i], *node.items[i + 1], name, depth);
        break;
      case Kind::list:
      case Kind::tuple:
        for (size_t i = 0; i < node.items.size(); ++i) {
          const std::string index = std::to_string(i);
          visit(*node.items[i], name.empty() ? index : name + "." + index, depth + 1);
        }
        break;
      case Kind::call:
        visit_call(node, name, depth);
        break;
      default:
        break;
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& name) const {
    fail(ExitCode::checkpoint, "{}: '{}': nests too deeply or has too many values", file_,
         name.substr(0, 100));
  }
  void count_visit(const std::string& name) {
    if (++visits_ > kMaxVisits) refuse(name);
  }

  void visit_call(const Node& node, const std::string& name, int depth) {
    const std::string& function = node.items[0]->text;
    if (is_call(node, "torch._utils._rebuild") || is_call(node, "torch._tensor._rebuild")) {
      PthEntry entry;
      if (const std::string problem = read_tensor(node, entry); !problem.empty())
        entry = {.problem = problem};
      bytes_ += sizeof(found[0]) + name.size() + entry.problem.size() + entry.storage.size() +
                entry.strides.size() * sizeof(entry.strides[0]);
      if (bytes_ > kMaxBytes) refuse(name);
      found.emplace_back(name, std::move(entry));
    } else if (const auto& arguments = node.items[1]->items;
               arguments.size() == 1 &&
               (function == "collections.Counter" || function == "collections.OrderedDict")) {
      visit_mapping(*arguments[0], name, depth);
    }  // else an object of another class, inert
  }

  // What a mapping is made from: another, or a list of pairs as Python 2 does.
  void visit_mapping(const Node& from, const std::string& name, int depth) {
    if (from.kind == Kind::dict) visit(from, name, depth + 1);
    if (from.kind != Kind::list) return;
    for (const Node* pair : from.items)
      if (pair->items.size() == 2)
        visit_item(*pair->items[0], *pair->items[1], name, depth);
      else
        count_visit(name);
  }

  void visit_item(const Node& key, const Node& value, const std::string& name, int depth) {
    if (key.kind != Kind::text && key.kind != Kind::integer) return count_visit(name);
    const std::string text = key.kind == Kind::text ? key.text : std::to_string(key.integer);
    visit(value, name.empty() ? text : name + "." + text, depth + 1);
  }

  const std::string& file_;
  size_t visits_ = 0, bytes_ = 0;
};

}  // namespace

std::string_view storage_class(StoredType type) {
  std::string_view name = std::ranges::find(kStorageTypes, type, &StorageType::type)->name;
  name.remove_prefix(std::string_view("torch.").size());
  return name;
}

bool read_storage(const Node& persistent, PthEntry& entry) {
  if (persistent.kind != Kind::persistent) return false;
  // ("storage", type, key, device, elements[, None]); anything in place of None is a view of
  // another storage, last written in 2017.
  const std::vector<const Node*>& id = persistent.items[0]->items;
  if (id.size() < 5 || id[0]->text != "storage" || id[2]->kind != Kind::text ||
      id[4]->kind != Kind::integer || id[4]->integer < 0)
    return false;
  if (id.size() > 5 && id[5]->kind != Kind::none) return false;
  for (const StorageType& t : kStorageTypes)
    if (id[1]->kind == Kind::global && id[1]->text == t.name) {
      entry.type = t.type;
      entry.storage = id[2]->text;
      entry.storage_numel = id[4]->integer;
      return true;
    }
  return false;
}

std::vector<std::pair<std::string, PthEntry>> pth_entries(const Node& root,
                                                          const std::string& file) {
  Walk walk(file);
  walk.visit(root, "", 0);
  return std::move(walk.found);
}

}  // namespace sg
