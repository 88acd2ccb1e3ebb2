// The parameters of a model: named tensors of the published model, kept in one flat buffer, with
// all gradients in another.
//
// Layers declare what they need, then allocate() lays everything out, last declared first: that is
// roughly the order in which backward produces gradients, so finished gradients form growing
// slices. Tensors that are used by one matmul are declared together and lie side by side as one
// parameter (rows of one matrix), of which each is a named slice.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "autograd/tape.h"
#include "ops/adamw/adamw.h"

namespace sg::nn {

// How a tensor lies in memory, against its official (PyTorch) layout.
enum class Layout {
  same,            // the same bytes
  conv,            // official (out, in, kh, kw), here (out, kh, kw, in)
  depthwise,       // official (C, 1, 3, 3), here (3, 3, C)
  conv_transpose,  // official (in, out, kh, kw), here (kh * kw * out, in)
  flat_map,        // rows are maps: official (out, C * pixels), here (out, pixels * C)
};

// Initial values (see initialize()).
enum class Init {
  ones,
  zeros,
  linear,    // N(0, 0.02^2)
  conv,      // N(0, 2 / fan_out), fan_out = kh * kw * out / groups
  xavier,    // U(-a, a), a^2 = 6 / (fan_in + fan_out): feature pyramids, the box head
  logits,    // N(0, 0.01^2): what gives logits
  deltas,    // N(0, 0.001^2): what gives changes of boxes
  position,  // 2-D sine-cosine table (1, side * side, C)
};

// How training treats a tensor.
struct ParameterGroup {
  double lr_scale = 1;            // factor of the learning rate
  double weight_decay_scale = 1;  // factor of weight decay; 0: none
  bool frozen = false;            // keeps its value; no gradient is computed for it
  bool operator==(const ParameterGroup&) const = default;
};

// A named tensor of the published model: a parameter, or rows of one.
struct NamedSlice {
  std::string name;
  Shape official;  // shape in the published model
  Layout layout = Layout::same;
  Init init = Init::zeros;
  ParameterGroup group{};  // see ParameterStore::set_groups()
  int64_t pixels = 1;      // of Layout::flat_map
};

using GroupRule = std::function<ParameterGroup(const NamedSlice&)>;
// The rule of the recipe: one-dimensional tensors, biases among them, have no weight decay.
ParameterGroup published_group(const NamedSlice& part);

// What reads a parameter; it decides the dtype where activations are bf16.
enum class DtypeRole {
  elementwise,  // f32
  matmul,       // operand (or bias) of a matmul: bf16, or f32 that the operation rounds
};

struct Parameter {
  std::vector<NamedSlice> parts;
  Shape shape;  // in memory; parts are stacked along the first dimension
  DtypeRole role = DtypeRole::elementwise;
  int64_t offset = 0;  // elements, in the flat buffers
  Tensor value;        // a leaf whose gradient buffer is a slice of grads(); if frozen, no leaf

  bool frozen() const { return parts[0].group.frozen; }
};

// State that is computed, not trained: the running statistics of batch norm.
struct Buffer {
  std::string name;
  Shape shape;
  double initial = 0;
  int64_t offset = 0;  // elements, in the flat buffer
  Tensor value;        // of the dtype acc_dtype(ParameterStore::dtype())
};

// The parts of one group.
struct GroupSize {
  ParameterGroup group;
  int64_t tensors = 0, elements = 0;
};

class ParameterStore {
 public:
  ParameterStore() = default;
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  // Declares a parameter of one or several parts; `shape` is that of the whole, in memory. The
  // returned pointer remains valid. Throws on a duplicate name.
  Parameter* add(std::vector<NamedSlice> parts, Shape shape,
                 DtypeRole role = DtypeRole::elementwise);

  // Declares state that is kept in checkpoints beside the parameters, under its name. All values
  // are `initial` at first. The returned pointer remains valid. Throws on a duplicate name.
  Buffer* add_buffer(const std::string& name, Shape shape, double initial);

  // Makes the flat buffers. `dtype` is that of activations: for bf16, values and gradients are f32,
  // and what multiplies them needs bf16 values. CPUs that train make those in each operation
  // (ops/operand.h); else bf16_values() follows the values. Values are zero until
  // initialize() or set(). Without gradients, for inference, no parameter is on the tape and
  // grads() is undefined.
  void allocate(Dtype dtype = Dtype::f32, Device device = {}, bool gradients = true);
  Dtype dtype() const { return dtype_; }
  Device device() const { return values_.device(); }
  // Initial values of the published model, a function of the seed and the name order alone.
  void initialize(uint64_t seed);

  Tensor& values() { return values_; }
  Tensor& grads() { return grads_; }
  Tensor& bf16_values() { return bf16_values_; }  // undefined where there are none
  const Tensor& values() const { return values_; }
  const Tensor& grads() const { return grads_; }
  // Lets the parameters use another buffer of values() shape, e.g. the EMA, until called again.
  void use_values(Tensor flat);

  // All state that add_buffer() declared, in one tensor; undefined where there is none.
  Tensor& buffers() { return buffers_; }
  const std::deque<Buffer>& named_buffers() const { return named_buffers_; }

  void clear_grads();
  // Zeroes the gradient of every parameter that backward did not reach, so that all are defined.
  void zero_unreached_grads();

  // Puts each part into the group that the rule gives it; until then that of published_group().
  // Parts of one parameter are frozen together or not at all, else it throws. An Optimizer has the
  // groups of when it was made.
  void set_groups(const GroupRule& rule);
  // In order of first declaration.
  std::vector<GroupSize> groups() const;
  // What the optimizer updates: all that is not frozen.
  std::vector<AdamWSegment> segments() const;

  // By offset in the flat buffers.
  std::vector<const Parameter*> in_order() const;

  // Names in order of declaration.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(const std::string& name) const { return places_.contains(name); }
  const NamedSlice& part(const std::string& name) const;
  int64_t count() const;  // elements of all parts
  // Named tensors of a flat buffer (values(), grads(), moments, EMA) in official shape and layout;
  // get copies out, to the CPU; set copies in.
  Tensor get(const Tensor& flat, const std::string& name) const;
  void set(Tensor& flat, const std::string& name, const Tensor& official);

 private:
  struct Place {
    size_t parameter;
    size_t part;
    int64_t offset;  // within the parameter, elements
  };
  const Place& place(const std::string& name) const;

  std::deque<Parameter> parameters_;
  std::vector<std::string> names_;
  std::map<std::string, Place> places_;
  std::deque<Buffer> named_buffers_;
  Dtype dtype_ = Dtype::f32;
  Tensor values_, grads_, bf16_values_, buffers_;
};

// Where a module declares its parameters: a store and a name prefix ("block1.0.attn.").
class ParameterScope {
 public:
  ParameterScope(ParameterStore& store, std::string prefix = "")
      : store_(&store), prefix_(std::move(prefix)) {}
  ParameterScope operator/(const std::string& name) const {
    return {*store_, prefix_ + name + "."};
  }
  // Prefixes the names.
  Parameter* add(std::vector<NamedSlice> parts, Shape shape,
                 DtypeRole role = DtypeRole::elementwise) const;
  Buffer* add_buffer(const std::string& name, Shape shape, double initial) const {
    return store_->add_buffer(prefix_ + name, shape, initial);
  }
  std::string name(const std::string& leaf) const { return prefix_ + leaf; }

 private:
  ParameterStore* store_;
  std::string prefix_;
};

}  // namespace sg::nn
