#include "core/cuda/cudnn_convolution.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <utility>

#include "core/cuda/cudnn.h"
#include "core/profile.h"
#include "core/tensor.h"

namespace sg::cuda {
namespace {

using namespace cudnn;
using Pass = ConvolutionPass;

const char* name_of(Pass pass) {
  return pass == Pass::forward          ? "forward"
         : pass == Pass::input_gradient ? "gradient of the input"
                                        : "gradient of the weights";
}

std::string describe(Pass pass, const Convolution& c) {
  return fmt::format(
      "{} of {} ({}, {}, {}, {}) -> {}, kernel {} x {}, stride {}, padding {} {} {} {}",
      name_of(pass), name_of(c.dtype), c.batch, c.height, c.width, c.channels, c.filters,
      c.kernel_height, c.kernel_width, c.stride, c.top, c.left, c.bottom, c.right);
}

// A call of cuDNN that did not succeed.
struct Failure {
  Status status;
  std::string what;
  bool refuses() const { return status / 1000 * 1000 == kNotSupported; }
};

void check_status(const Api& api, Status status, const char* call) {
  if (status == kSuccess) [[likely]]
    return;
  throw Failure{status, api.describe(call, status)};
}

// A descriptor, and its attributes.
class Owned {
 public:
  Owned(const Api& api, Kind kind) : api_(&api) {
    check_status(api, api.create_descriptor(kind, &raw_), "cudnnBackendCreateDescriptor");
  }
  Owned(Owned&& o) noexcept : api_(o.api_), raw_(std::exchange(o.raw_, nullptr)) {}
  Owned& operator=(Owned&& o) noexcept {
    std::swap(raw_, o.raw_);
    return *this;
  }
  ~Owned() {
    if (raw_) api_->destroy_descriptor(raw_);
  }

  Descriptor raw() const { return raw_; }
  template <class T>
  void set(Attribute name, Type type, std::span<const T> values) {
    check_status(*api_, api_->set(raw_, name, type, int64_t(values.size()), values.data()),
                 "cudnnBackendSetAttribute");
  }
  template <class T>
  void set(Attribute name, Type type, const T& value) {
    set(name, type, std::span<const T>(&value, 1));
  }
  void set(Attribute name, const Owned& value) { set(name, Type::descriptor, value.raw()); }
  void set(Attribute name, std::initializer_list<int64_t> values) {
    set(name, Type::int64, std::span(values.begin(), values.size()));
  }
  // At most values.size() of them; returns how many there are.
  template <class T>
  size_t get(Attribute name, Type type, std::span<T> values) const {
    int64_t count = 0;
    check_status(*api_, api_->get(raw_, name, type, int64_t(values.size()), &count, values.data()),
                 "cudnnBackendGetAttribute");
    return size_t(count);
  }
  int64_t get_int64(Attribute name) const {
    int64_t value = 0;
    get(name, Type::int64, std::span(&value, 1));
    return value;
  }
  // At most `most` descriptors: cuDNN fills in those that are made here.
  std::vector<Owned> get(Attribute name, Kind kind, size_t most) const {
    std::vector<Owned> to;
    std::vector<Descriptor> raw;
    for (size_t i = 0; i < most; ++i) raw.push_back(to.emplace_back(*api_, kind).raw());
    to.erase(to.begin() + int64_t(std::min(most, get(name, Type::descriptor, std::span(raw)))),
             to.end());
    return to;
  }
  void finalize() { check_status(*api_, api_->finalize(raw_), "cudnnBackendFinalize"); }

 private:
  const Api* api_;
  Descriptor raw_ = nullptr;
};

// What plans are made for: the GPU of a handle, or one that is described.
struct Target {
  Handle handle = nullptr;
  const Owned* properties = nullptr;
};

struct Plan {
  std::optional<Owned> execution;  // none where there is no engine
  int64_t workspace = 0;
  std::string choice;  // the engine, or why there is none; kept with the convolution before it
};

enum Operand : int64_t { kX = 1, kW, kY };  // unique ids

// Memory is channels last; cuDNN names dimensions as NCHW, whatever their order there.
Owned tensor(const Api& api, Operand id, Dtype dtype, int64_t alignment, int64_t n, int64_t height,
             int64_t width, int64_t channels) {
  Owned t(api, Kind::tensor);
  t.set(Attribute::tensor_data_type, Type::data_type,
        dtype == Dtype::f32 ? DataType::f32 : DataType::bf16);
  t.set(Attribute::tensor_dimensions, {n, channels, height, width});
  t.set(Attribute::tensor_strides, {height * width * channels, 1, width * channels, channels});
  t.set(Attribute::tensor_unique_id, {id});
  t.set(Attribute::tensor_byte_alignment, {alignment});
  t.finalize();
  return t;
}

struct Alignments {
  int64_t x, w, y;  // bytes
};

Owned operation(const Api& api, Pass pass, const Convolution& c, const Alignments& alignments) {
  const Owned x = tensor(api, kX, c.dtype, alignments.x, c.batch, c.height, c.width, c.channels);
  const Owned w = tensor(api, kW, c.dtype, alignments.w, c.filters, c.kernel_height, c.kernel_width,
                         c.channels);
  const Owned y = tensor(api, kY, c.dtype, alignments.y, c.batch, c.rows, c.columns, c.filters);
  Owned convolution(api, Kind::convolution);
  convolution.set(Attribute::convolution_spatial_dims, {2});
  convolution.set(Attribute::convolution_comp_type, Type::data_type, DataType::f32);
  convolution.set(Attribute::convolution_mode, Type::convolution_mode,
                  ConvolutionMode::cross_correlation);
  convolution.set(Attribute::convolution_pre_paddings, {c.top, c.left});
  convolution.set(Attribute::convolution_post_paddings, {c.bottom, c.right});
  convolution.set(Attribute::convolution_dilations, {1, 1});
  convolution.set(Attribute::convolution_filter_strides, {c.stride, c.stride});
  convolution.finalize();
  using A = Attribute;
  const auto make = [&](Kind kind, A alpha, A beta, A how, A x_name, A w_name, A y_name) {
    Owned to(api, kind);
    to.set(alpha, Type::f32, 1.0f);
    to.set(beta, Type::f32, 0.0f);
    to.set(how, convolution);
    to.set(x_name, x);
    to.set(w_name, w);
    to.set(y_name, y);
    to.finalize();
    return to;
  };
  switch (pass) {
    case Pass::forward:
      return make(Kind::convolution_forward, A::forward_alpha, A::forward_beta,
                  A::forward_convolution, A::forward_x, A::forward_w, A::forward_y);
    case Pass::input_gradient:
      return make(Kind::convolution_backward_data, A::backward_data_alpha, A::backward_data_beta,
                  A::backward_data_convolution, A::backward_data_dx, A::backward_data_w,
                  A::backward_data_dy);
    default:
      return make(Kind::convolution_backward_filter, A::backward_filter_alpha,
                  A::backward_filter_beta, A::backward_filter_convolution, A::backward_filter_x,
                  A::backward_filter_dw, A::backward_filter_dy);
  }
}

// Best first.
std::vector<Owned> configurations(const Api& api, const Owned& graph, HeuristicsMode mode,
                                  const Target& target) {
  Owned heuristics(api, Kind::engine_heuristics);
  heuristics.set(Attribute::heuristics_operation_graph, graph);
  heuristics.set(Attribute::heuristics_mode, Type::heuristics_mode, mode);
  if (target.properties)
    heuristics.set(Attribute::heuristics_device_properties, *target.properties);
  try {
    heuristics.finalize();
  } catch (const Failure& f) {
    if (f.refuses()) return {};
    throw;
  }
  const size_t count =
      heuristics.get(Attribute::heuristics_results, Type::descriptor, std::span<Descriptor>());
  return heuristics.get(Attribute::heuristics_results, Kind::engine_config, count);
}

// The rule of cudnn_convolution.h.
bool allowed(Dtype dtype, std::span<const Note> notes) {
  return std::ranges::none_of(notes, [&](Note note) {
    return note == Note::nondeterministic || note == Note::down_convert_inputs ||
           note == Note::reduced_precision_reduction ||
           note == (dtype == Dtype::f32 ? Note::tensor_core : Note::winograd);
  });
}

// "engine 31, knobs 2=1 14=0"
std::string describe(const Owned& config, const Owned& engine) {
  constexpr size_t kMostKnobs = 64;
  std::string text = fmt::format("engine {}", engine.get_int64(Attribute::engine_global_index));
  const char* separator = ", knobs ";
  for (const Owned& knob :
       config.get(Attribute::engine_config_knob_choices, Kind::knob_choice, kMostKnobs)) {
    int kind = 0;
    knob.get(Attribute::knob_choice_type, Type::knob_type, std::span(&kind, 1));
    text += fmt::format("{}{}={}", std::exchange(separator, " "), kind,
                        knob.get_int64(Attribute::knob_choice_value));
  }
  return text;
}

Plan find_plan(const Api& api, Pass pass, const Convolution& c, const Alignments& alignments,
               const Target& target) {
  const Owned of = operation(api, pass, c, alignments);
  Owned graph(api, Kind::operation_graph);
  graph.set(Attribute::operation_graph_operations, of);
  if (target.handle) graph.set(Attribute::operation_graph_handle, Type::handle, target.handle);
  graph.finalize();
  int found = 0;
  std::string last;
  for (const HeuristicsMode mode : {HeuristicsMode::a, HeuristicsMode::fallback})
    for (const Owned& config : configurations(api, graph, mode, target)) {
      ++found;
      const std::vector<Owned> engine =
          config.get(Attribute::engine_config_engine, Kind::engine, 1);
      std::array<Note, kMostNotes> notes;
      const size_t count = engine.at(0).get(Attribute::engine_numerical_note, Type::numerical_note,
                                            std::span<Note>(notes));
      if (!allowed(c.dtype, std::span<const Note>(notes).first(count))) continue;
      Plan plan{.execution = Owned(api, Kind::execution_plan)};
      try {
        if (target.properties)
          plan.execution->set(Attribute::execution_plan_device_properties, *target.properties);
        else
          plan.execution->set(Attribute::execution_plan_handle, Type::handle, target.handle);
        plan.execution->set(Attribute::execution_plan_engine_config, config);
        plan.execution->finalize();
      } catch (const Failure& f) {  // heuristics may name what does not work in the end
        last = f.what;
        continue;
      }
      plan.workspace = plan.execution->get_int64(Attribute::execution_plan_workspace_size);
      if (plan.workspace > kMaxWorkspace) continue;
      plan.choice =
          fmt::format("{}, {} bytes of workspace", describe(config, engine[0]), plan.workspace);
      return plan;
    }
  return {.choice = fmt::format("no engine, of {} that the heuristics name{}{}", found,
                                last.empty() ? "" : "; the last failed: ", last)};
}

// The largest power of two, up to what an access of a kernel takes, that divides the address.
int64_t alignment(const void* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return int64_t(std::min<uintptr_t>(16, address & (~address + 1)));
}

// The library, handles of devices, and plans: kept to the end of the program.
struct State {
  using Key = std::array<int64_t, 20>;
  std::mutex mutex;
  const Api* api = nullptr;
  std::string missing;  // why there is none
  std::map<int, Handle> handles;
  std::map<Key, Plan> plans;

  State() {
    try {
      api = new Api;
      spdlog::info("convolutions of wide maps: {} ({})", api->version(), api->library.path());
    } catch (const Error& e) {
      give_up(e.what());
    }
  }
  void give_up(const std::string& reason) {
    api = nullptr, missing = reason;
    spdlog::warn("convolutions of wide maps: own kernels, which are slower: {}", reason);
  }
  // Null where the library does not work on this machine.
  Handle handle(Stream& stream) {
    Handle& h = handles[stream.device.index];
    if (!h)
      if (const Status status = api->create(&h); status != kSuccess) {
        h = nullptr;
        give_up(fmt::format("{}: {}", api->library.path(), api->describe("cudnnCreate", status)));
      }
    return h;
  }
};

State& state() {
  static State& s = *new State;
  return s;
}

}  // namespace

bool cudnn_convolution(Stream& stream, Pass pass, const Convolution& c, const void* x,
                       const void* w, const void* y) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (!s.api) return false;
  const Handle handle = s.handle(stream);
  if (!handle) return false;
  const Api& api = *s.api;
  const Alignments alignments{alignment(x), alignment(w), alignment(y)};
  const State::Key key{int64_t(pass),    stream.device.index,
                       int64_t(c.dtype), c.batch,
                       c.height,         c.width,
                       c.channels,       c.rows,
                       c.columns,        c.filters,
                       c.kernel_height,  c.kernel_width,
                       c.stride,         c.top,
                       c.left,           c.bottom,
                       c.right,          alignments.x,
                       alignments.w,     alignments.y};
  try {
    auto it = s.plans.find(key);
    if (it == s.plans.end()) {
      it = s.plans.emplace(key, find_plan(api, pass, c, alignments, {.handle = handle})).first;
      it->second.choice = fmt::format("{}: {}", describe(pass, c), it->second.choice);
    }
    const Plan& plan = it->second;
    if (!plan.execution) return false;
    // From the tensors' allocator, so that a captured graph has a workspace of its own.
    Tensor workspace = empty({plan.workspace}, Dtype::u8, stream.device);
    const std::array<const void*, 3> pointers{x, w, y};
    Owned pack(api, Kind::variant_pack);
    pack.set(Attribute::variant_pack_unique_ids, {kX, kW, kY});
    pack.set(Attribute::variant_pack_data_pointers, Type::void_pointer,
             std::span<const void* const>(pointers));
    pack.set(Attribute::variant_pack_workspace, Type::void_pointer, workspace.raw());
    pack.finalize();
    check_status(api, api.set_stream(handle, stream.handle), "cudnnSetStream");
    check_status(api, api.execute(handle, plan.execution->raw(), pack.raw()),
                 "cudnnBackendExecute");
    return true;
  } catch (const Failure& f) {
    fail(ExitCode::failure, "CUDA: {} ({}): {}; {}", api.version(), api.library.path(), f.what,
         describe(pass, c));
  }
}

std::string describe_cudnn() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  return s.api ? fmt::format("{} ({})", s.api->version(), s.api->library.path())
               : fmt::format("own kernels: {}", s.missing);
}

std::vector<std::string> cudnn_choices() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  std::vector<std::string> lines;
  for (const auto& [key, plan] : s.plans) lines.push_back(plan.choice);
  std::ranges::sort(lines);
  lines.erase(std::unique(lines.begin(), lines.end()), lines.end());
  return lines;
}

std::string cudnn_choice(Pass pass, const Convolution& c, const std::string& device_properties) {
  static const Api& api = *new Api;
  try {
    Owned properties(api, Kind::device_properties);
    properties.set(Attribute::device_properties_json, Type::character,
                   std::span(device_properties.c_str(), device_properties.size() + 1));
    properties.finalize();
    return find_plan(api, pass, c, {16, 16, 16}, {.properties = &properties}).choice;
  } catch (const Failure& f) {
    fail(ExitCode::failure, "CUDA: {}: {}; {}", api.version(), f.what, describe(pass, c));
  }
}

}  // namespace sg::cuda
