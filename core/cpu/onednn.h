// oneDNN primitives, made once for each shape and kept ready to run.
#pragma once
#include <array>
#include <initializer_list>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/cpu/parallel.h"
#include "core/tensor.h"

namespace sg::onednn {

const dnnl::engine& engine();

template <class S>
inline constexpr dnnl::memory::data_type data_type = dnnl::memory::data_type::f32;
template <>
inline constexpr dnnl::memory::data_type data_type<bf16> = dnnl::memory::data_type::bf16;

// A primitive with the layout of its arguments (DNNL_ARG_*). Its scratch memory comes from the
// tensor allocator at each run, so that it is shared with everything else that comes and goes.
// Within a parallel loop, where that is to be avoided (scratch.h), a thread keeps what it took.
class Ready {
 public:
  // Asks for the primitive's scratchpad in user mode: pass attributes() with your own additions.
  static dnnl::primitive_attr attributes();
  Ready() = default;  // oneDNN has no primitive for the task
  explicit operator bool() const { return !arguments_.empty(); }
  Ready(const dnnl::primitive& primitive, const dnnl::memory::desc& scratchpad,
        std::initializer_list<std::pair<int, dnnl::memory::desc>> arguments);
  // The memory of each argument, in the order given to the constructor.
  void run(std::initializer_list<const void*> data);
  // The same with scratch memory of the caller.
  void run(std::initializer_list<const void*> data, void* scratch);
  size_t scratch_bytes() const { return scratch_bytes_; }
  dnnl::memory::desc layout(size_t i) const { return memories_[i].get_desc(); }  // of argument i

 private:
  dnnl::primitive primitive_;
  size_t scratch_bytes_ = 0;
  std::vector<dnnl::memory> memories_;
  std::vector<dnnl_exec_arg_t> arguments_;
};

using Key = std::array<int64_t, 20>;

// Of a thread, by key and number of threads: the newest, and those that were the newest before.
// Images of ever new sizes must not fill the memory, but what a caller holds must live on while it
// asks for more.
template <class T>
auto& made_by_thread() {
  using Made = std::map<std::pair<Key, int>, T>;
  thread_local std::pair<Made, Made> made;
  return made;
}

// What make() returned for this key when this thread first asked: a primitive, or what is known of
// several. The number of threads, which oneDNN builds into a primitive, is part of the key. A
// thread has its own: no lock. The reference is valid until the thread has asked for a thousand
// others of the type.
template <class Make>
auto& cached(const Key& key, const Make& make) {
  constexpr size_t kMost = 1024;
  auto& [newest, before] = made_by_thread<std::invoke_result_t<Make>>();
  const std::pair full_key{key, num_threads()};
  auto it = newest.find(full_key);
  if (it == newest.end()) {
    if (newest.size() >= kMost) before = std::exchange(newest, {});
    try {
      it = newest.emplace(full_key, make()).first;
    } catch (const dnnl::error& e) {
      fail(ExitCode::failure, "oneDNN refuses a product of these sizes: {}", e.message);
    }
  }
  return it->second;
}

// Copies values from one layout to another. The key tells these two layouts from all others.
void reorder(const Key& key, const dnnl::memory::desc& from, const void* source,
             const dnnl::memory::desc& to, void* target);
Tensor reordered(const Key& key, const dnnl::memory::desc& from, const void* source,
                 const dnnl::memory::desc& to);  // in new memory
Tensor memory_for(const dnnl::memory::desc& layout);

}  // namespace sg::onednn
