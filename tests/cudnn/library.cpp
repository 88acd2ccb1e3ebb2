#include "tests/cudnn/library.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "core/dtype.h"
#include "tests/emulation/emulator.h"

using namespace sg::cuda::cudnn;

namespace sg::test {
FakeCudnn& fake_cudnn() {
  static FakeCudnn state;
  return state;
}
}  // namespace sg::test

namespace {

using sg::test::fake_cudnn;
using A = Attribute;

constexpr Status kBadParam = 2000;

struct Value {
  Type type;
  int64_t count;
  std::vector<char> bytes;
};

struct Node {
  Kind kind;
  bool finalized = false;
  std::map<Attribute, Value> values;
  sg::test::FakeEngine engine;  // of a configuration, engine or plan

  bool has(A name) const { return values.contains(name); }
  template <class T>
  T get(A name, int i = 0) const {
    T v;
    std::memcpy(&v, values.at(name).bytes.data() + size_t(i) * sizeof v, sizeof v);
    return v;
  }
  const Node& node(A name) const { return *static_cast<Node*>(get<void*>(name)); }
};

Node& node(Descriptor d) { return *static_cast<Node*>(d); }

int64_t size_of(Type type) {
  switch (type) {
    case Type::data_type:
    case Type::convolution_mode:
    case Type::heuristics_mode:
    case Type::knob_type:
    case Type::numerical_note:
    case Type::f32:
      return 4;
    case Type::character:
      return 1;
    default:
      return 8;
  }
}

// What each attribute is: of which kind of descriptor, its type and how many.
struct Rule {
  Kind of;
  Type type;
  int64_t count;
};
const std::map<Attribute, Rule>& rules() {
  static const std::map<Attribute, Rule> all = [] {
    std::map<Attribute, Rule> r{
        {A::convolution_comp_type, {Kind::convolution, Type::data_type, 1}},
        {A::convolution_mode, {Kind::convolution, Type::convolution_mode, 1}},
        {A::convolution_dilations, {Kind::convolution, Type::int64, 2}},
        {A::convolution_filter_strides, {Kind::convolution, Type::int64, 2}},
        {A::convolution_post_paddings, {Kind::convolution, Type::int64, 2}},
        {A::convolution_pre_paddings, {Kind::convolution, Type::int64, 2}},
        {A::convolution_spatial_dims, {Kind::convolution, Type::int64, 1}},
        {A::heuristics_mode, {Kind::engine_heuristics, Type::heuristics_mode, 1}},
        {A::heuristics_operation_graph, {Kind::engine_heuristics, Type::descriptor, 1}},
        {A::execution_plan_handle, {Kind::execution_plan, Type::handle, 1}},
        {A::execution_plan_engine_config, {Kind::execution_plan, Type::descriptor, 1}},
        {A::operation_graph_handle, {Kind::operation_graph, Type::handle, 1}},
        {A::operation_graph_operations, {Kind::operation_graph, Type::descriptor, 1}},
        {A::tensor_byte_alignment, {Kind::tensor, Type::int64, 1}},
        {A::tensor_data_type, {Kind::tensor, Type::data_type, 1}},
        {A::tensor_dimensions, {Kind::tensor, Type::int64, 4}},
        {A::tensor_strides, {Kind::tensor, Type::int64, 4}},
        {A::tensor_unique_id, {Kind::tensor, Type::int64, 1}},
        {A::variant_pack_unique_ids, {Kind::variant_pack, Type::int64, 3}},
        {A::variant_pack_data_pointers, {Kind::variant_pack, Type::void_pointer, 3}},
        {A::variant_pack_workspace, {Kind::variant_pack, Type::void_pointer, 1}},
    };
    int first = int(A::forward_alpha);
    for (const Kind of : {Kind::convolution_forward, Kind::convolution_backward_data,
                          Kind::convolution_backward_filter}) {
      for (int i = 0; i < 6; ++i) r[A(first + i)] = {of, i < 2 ? Type::f32 : Type::descriptor, 1};
      first += 6;
    }
    return r;
  }();
  return all;
}

// The operands of an operation, whatever its direction.
struct Operation {
  const Node &convolution, &x, &w, &y;
};
Operation operation_of(const Node& n) {
  switch (n.kind) {
    case Kind::convolution_forward:
      return {n.node(A::forward_convolution), n.node(A::forward_x), n.node(A::forward_w),
              n.node(A::forward_y)};
    case Kind::convolution_backward_data:
      return {n.node(A::backward_data_convolution), n.node(A::backward_data_dx),
              n.node(A::backward_data_w), n.node(A::backward_data_dy)};
    default:
      return {n.node(A::backward_filter_convolution), n.node(A::backward_filter_x),
              n.node(A::backward_filter_dw), n.node(A::backward_filter_dy)};
  }
}

int64_t dim(const Node& tensor, int i) { return tensor.get<int64_t>(A::tensor_dimensions, i); }

bool fits(const Operation& o) {
  for (const Node* n : {&o.convolution, &o.x, &o.w, &o.y})
    if (!n->finalized) return false;
  if (dim(o.x, 0) != dim(o.y, 0) || dim(o.x, 1) != dim(o.w, 1) || dim(o.w, 0) != dim(o.y, 1))
    return false;
  for (int i = 0; i < 2; ++i) {
    const auto of = [&](A name) { return o.convolution.get<int64_t>(name, i); };
    const int64_t padded =
        dim(o.x, 2 + i) + of(A::convolution_pre_paddings) + of(A::convolution_post_paddings);
    if (dim(o.y, 2 + i) != (padded - dim(o.w, 2 + i)) / of(A::convolution_filter_strides) + 1)
      return false;
  }
  return true;
}

bool channels_last(const Node& t) {
  const int64_t c = dim(t, 1), h = dim(t, 2), w = dim(t, 3);
  const std::array<int64_t, 4> expected{h * w * c, 1, w * c, c};
  for (int i = 0; i < 4; ++i)
    if (t.get<int64_t>(A::tensor_strides, i) != expected[size_t(i)]) return false;
  return true;
}

// Elements in the order of memory, as double; and back.
int64_t numel(const Node& t) { return dim(t, 0) * dim(t, 1) * dim(t, 2) * dim(t, 3); }
bool is_f32(const Node& t) { return t.get<DataType>(A::tensor_data_type) == DataType::f32; }
std::vector<double> read(const Node& t, const void* data) {
  std::vector<double> v(static_cast<size_t>(numel(t)));
  for (size_t i = 0; i < v.size(); ++i)
    v[i] = is_f32(t) ? double(static_cast<const float*>(data)[i])
                     : double(float(static_cast<const sg::bf16*>(data)[i]));
  return v;
}
void write(const Node& t, const std::vector<double>& v, void* data) {
  for (size_t i = 0; i < v.size(); ++i)
    if (is_f32(t))
      static_cast<float*>(data)[i] = float(v[i]);
    else
      static_cast<sg::bf16*>(data)[i] = sg::bf16(float(v[i]));
}

void compute(const Node& of, void* x, void* w, void* y) {
  const Operation o = operation_of(of);
  std::vector<double> xv = read(o.x, x), wv = read(o.w, w), yv = read(o.y, y);
  std::vector<double>& to = of.kind == Kind::convolution_forward         ? yv
                            : of.kind == Kind::convolution_backward_data ? xv
                                                                         : wv;
  std::ranges::fill(to, 0);
  const auto at = [](const Node& t, int64_t n, int64_t c, int64_t h, int64_t v) {
    return size_t(((n * dim(t, 2) + h) * dim(t, 3) + v) * dim(t, 1) + c);
  };
  const auto setting = [&](A name, int i) { return o.convolution.get<int64_t>(name, i); };
  for (int64_t n = 0; n < dim(o.y, 0); ++n)
    for (int64_t p = 0; p < dim(o.y, 2); ++p)
      for (int64_t q = 0; q < dim(o.y, 3); ++q)
        for (int64_t r = 0; r < dim(o.w, 2); ++r)
          for (int64_t s = 0; s < dim(o.w, 3); ++s) {
            const int64_t h = p * setting(A::convolution_filter_strides, 0) + r -
                              setting(A::convolution_pre_paddings, 0);
            const int64_t v = q * setting(A::convolution_filter_strides, 1) + s -
                              setting(A::convolution_pre_paddings, 1);
            if (h < 0 || h >= dim(o.x, 2) || v < 0 || v >= dim(o.x, 3)) continue;
            for (int64_t k = 0; k < dim(o.w, 0); ++k)
              for (int64_t c = 0; c < dim(o.w, 1); ++c) {
                double &a = xv[at(o.x, n, c, h, v)], &b = wv[at(o.w, k, c, r, s)],
                       &d = yv[at(o.y, n, k, p, q)];
                if (&to == &yv)
                  d += a * b;
                else if (&to == &xv)
                  a += d * b;
                else
                  b += a * d;
              }
          }
  if (&to == &yv)
    write(o.y, yv, y);
  else if (&to == &xv)
    write(o.x, xv, x);
  else
    write(o.w, wv, w);
}

Status finalize(Node& n) {
  for (const auto& [name, rule] : rules())
    if (rule.of == n.kind && !n.has(name)) return kBadParam;
  switch (n.kind) {
    case Kind::tensor:
      return channels_last(n) ? kSuccess : kBadParam;
    case Kind::convolution:
      return n.get<DataType>(A::convolution_comp_type) == DataType::f32 ? kSuccess : kBadParam;
    case Kind::convolution_forward:
    case Kind::convolution_backward_data:
    case Kind::convolution_backward_filter:
      return fits(operation_of(n)) ? kSuccess : kBadParam;
    case Kind::operation_graph:
      return n.node(A::operation_graph_operations).finalized ? kSuccess : kBadParam;
    case Kind::engine_heuristics:
      return n.node(A::heuristics_operation_graph).finalized ? kSuccess : kBadParam;
    case Kind::execution_plan:
      n.engine = n.node(A::execution_plan_engine_config).engine;
      // The graph that the configuration is for outlives the descriptor that the caller has.
      n.values[A::operation_graph_operations] =
          n.node(A::execution_plan_engine_config).values.at(A::operation_graph_operations);
      return n.engine.works ? kSuccess : kNotSupported + 8;
    default:
      return kSuccess;
  }
}

// A plan works when all that it was made of is gone, so operations stay.
std::vector<std::unique_ptr<Node>>& gone() {
  static std::vector<std::unique_ptr<Node>> nodes;
  return nodes;
}

struct FakeHandle {
  bool has_stream = false;
  void* stream = nullptr;
};

#define ENTER(call)                                                                      \
  if (const auto it = fake_cudnn().failing.find(call); it != fake_cudnn().failing.end()) \
  return it->second

}  // namespace

extern "C" {

size_t cudnnGetVersion() { return 91900; }
const char* cudnnGetErrorString(Status status) {
  return status == kBadParam ? "CUDNN_STATUS_BAD_PARAM" : "CUDNN_STATUS_OTHER";
}
void cudnnGetLastErrorString(char* to, size_t size) { std::strncpy(to, "its own words", size); }

Status cudnnCreate(Handle* handle) {
  ENTER("cudnnCreate");
  ++fake_cudnn().handles;
  *handle = reinterpret_cast<Handle>(new FakeHandle);
  return kSuccess;
}
Status cudnnSetStream(Handle handle, void* stream) {
  *reinterpret_cast<FakeHandle*>(handle) = {true, stream};
  return kSuccess;
}
Status cudnnBackendCreateDescriptor(Kind kind, Descriptor* d) {
  ENTER("cudnnBackendCreateDescriptor");
  ++fake_cudnn().descriptors;
  *d = new Node{kind, false, {}, {}};
  return kSuccess;
}
Status cudnnBackendDestroyDescriptor(Descriptor d) {
  --fake_cudnn().descriptors;
  gone().emplace_back(&node(d));
  return kSuccess;
}
Status cudnnBackendSetAttribute(Descriptor d, Attribute name, Type type, int64_t count,
                                const void* values) {
  Node& n = node(d);
  const auto rule = rules().find(name);
  if (n.finalized || rule == rules().end() || rule->second.of != n.kind ||
      rule->second.type != type || rule->second.count != count)
    return kBadParam;
  const auto* from = static_cast<const char*>(values);
  n.values[name] = {type, count, {from, from + count * size_of(type)}};
  return kSuccess;
}
Status cudnnBackendFinalize(Descriptor d) {
  ENTER("cudnnBackendFinalize");
  const Status status = finalize(node(d));
  node(d).finalized = status == kSuccess;
  return status;
}
Status cudnnBackendGetAttribute(Descriptor d, Attribute name, Type type, int64_t most,
                                int64_t* count, void* values) {
  Node& n = node(d);
  const auto put = [&](const auto& v) {
    *count = 1;
    if (most > 0) std::memcpy(values, &v, sizeof v);
    return kSuccess;
  };
  switch (name) {
    case A::heuristics_results: {
      if (!n.finalized || type != Type::descriptor) return kBadParam;
      const auto& engines = n.get<HeuristicsMode>(A::heuristics_mode) == HeuristicsMode::a
                                ? fake_cudnn().engines
                                : fake_cudnn().fallbacks;
      *count = int64_t(engines.size());
      if (most == 0) ++fake_cudnn().searches;
      for (int64_t i = 0; i < std::min(most, *count); ++i) {
        Node& config = node(static_cast<Descriptor*>(values)[i]);
        if (config.kind != Kind::engine_config) return kBadParam;
        config.engine = engines[size_t(i)], config.finalized = true;
        config.values[A::operation_graph_operations] =
            n.node(A::heuristics_operation_graph).values.at(A::operation_graph_operations);
      }
      return kSuccess;
    }
    case A::engine_config_engine: {
      Node& engine = node(*static_cast<Descriptor*>(values));
      if (engine.kind != Kind::engine) return kBadParam;
      engine.engine = n.engine, *count = 1;
      return kSuccess;
    }
    case A::engine_config_knob_choices:
      *count = 0;
      return kSuccess;
    case A::engine_global_index:
      return type == Type::int64 ? put(n.engine.index) : kBadParam;
    case A::engine_numerical_note:
      *count = int64_t(n.engine.notes.size());
      if (*count > most) return kBadParam;
      std::memcpy(values, n.engine.notes.data(), n.engine.notes.size() * sizeof(Note));
      return kSuccess;
    case A::execution_plan_workspace_size:
      return n.finalized && type == Type::int64 ? put(n.engine.workspace) : kBadParam;
    default:
      return kBadParam;
  }
}
Status cudnnBackendExecute(Handle h, Descriptor plan, Descriptor pack) {
  ENTER("cudnnBackendExecute");
  const auto& handle = *reinterpret_cast<const FakeHandle*>(h);
  const Node &p = node(plan), &v = node(pack);
  if (!handle.has_stream || !p.finalized || !v.finalized) return kBadParam;
  const Node& of = p.node(A::operation_graph_operations);
  const Operation o = operation_of(of);
  std::array<void*, 3> pointers{};
  const std::array<const Node*, 3> tensors{&o.x, &o.w, &o.y};
  for (int i = 0; i < 3; ++i) {
    const auto id = v.get<int64_t>(A::variant_pack_unique_ids, i);
    for (size_t t = 0; t < 3; ++t)
      if (tensors[t]->get<int64_t>(A::tensor_unique_id) == id)
        pointers[t] = v.get<void*>(A::variant_pack_data_pointers, i);
  }
  for (size_t t = 0; t < 3; ++t)
    if (!pointers[t] || reinterpret_cast<uintptr_t>(pointers[t]) %
                            uintptr_t(tensors[t]->get<int64_t>(A::tensor_byte_alignment)))
      return kBadParam;
  void* const workspace = v.get<void*>(A::variant_pack_workspace);
  if (p.engine.workspace > 0 && !workspace) return kBadParam;
  fake_cudnn().last_workspace = workspace;
  fake_cudnn().last_engine = p.engine.index;
  fake_cudnn().last_alignment = o.y.get<int64_t>(A::tensor_byte_alignment);
  ++fake_cudnn().executions;
  const size_t bytes = size_t(p.engine.workspace);
  sg::emulation::enqueue({{sg::DeviceType::cuda, 0}, handle.stream}, [=, &of] {
    if (sg::emulation::dry()) return;
    if (bytes) std::memset(workspace, 0xff, bytes);
    compute(of, pointers[0], pointers[1], pointers[2]);
  });
  return kSuccess;
}

}  // extern "C"
