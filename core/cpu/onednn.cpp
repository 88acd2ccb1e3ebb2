#include "core/cpu/onednn.h"

#include <omp.h>

namespace sg::onednn {

const dnnl::engine& engine() {
  static const dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

dnnl::primitive_attr Ready::attributes() {
  dnnl::primitive_attr a;
  a.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return a;
}

Ready::Ready(const dnnl::primitive& primitive, const dnnl::memory::desc& scratchpad,
             std::initializer_list<std::pair<int, dnnl::memory::desc>> arguments)
    : primitive_(primitive), scratch_bytes_(scratchpad.get_size()) {
  // oneDNN rejects an argument that the primitive does not use.
  const auto add = [&](int name, const dnnl::memory::desc& layout) {
    memories_.emplace_back(layout, engine(), nullptr);
    if (layout.get_size() > 0) arguments_.push_back({name, memories_.back().get()});
  };
  for (const auto& [name, layout] : arguments) add(name, layout);
  add(DNNL_ARG_SCRATCHPAD, scratchpad);
}

void Ready::run(std::initializer_list<const void*> data) {
  const auto scratch = [&] { return empty({int64_t(scratch_bytes_)}, Dtype::u8); };
  if (!omp_in_parallel()) return run(data, scratch().raw());
  thread_local Tensor own;
  if (!own || own.bytes() < scratch_bytes_) own = {}, own = scratch();
  run(data, own.raw());
}

void Ready::run(std::initializer_list<const void*> data, void* scratch) {
  thread_local const dnnl::stream stream(engine());
  size_t i = 0;
  // oneDNN takes inputs, too, as pointers that may be written through.
  for (const void* p : data) memories_[i++].set_data_handle(const_cast<void*>(p));
  memories_.back().set_data_handle(scratch);
  // The C interface: the C++ one copies the arguments into a new hash table at every call.
  const auto status = dnnl_primitive_execute(primitive_.get(), stream.get(), int(arguments_.size()),
                                             arguments_.data());
  check(status == dnnl_success, "oneDNN: a product failed with status {}", int(status));
}

void reorder(const Key& key, const dnnl::memory::desc& from, const void* source,
             const dnnl::memory::desc& to, void* target) {
  Ready& ready = cached(key, [&] {
    const dnnl::reorder::primitive_desc pd(engine(), from, engine(), to, Ready::attributes());
    return Ready(dnnl::reorder(pd), pd.scratchpad_desc(),
                 {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
  });
  ready.run({source, target});
}

Tensor reordered(const Key& key, const dnnl::memory::desc& from, const void* source,
                 const dnnl::memory::desc& to) {
  Tensor target = memory_for(to);
  reorder(key, from, source, to, target.raw());
  return target;
}

Tensor memory_for(const dnnl::memory::desc& layout) {
  return empty({int64_t(layout.get_size())}, Dtype::u8);
}

}  // namespace sg::onednn
