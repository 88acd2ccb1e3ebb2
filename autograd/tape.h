// Reverse-mode differentiation over a tape.
//
// An operation computes its outputs, then calls record() with a rule: a closure that holds what
// backward needs and writes the gradients of the inputs. backward() runs the rules in the reverse
// of the order in which they were recorded, so sums of gradients always have the same order.
//
//   Tensor y = empty_like(x);
//   kernels::layer_norm_fwd(...);
//   record("layer_norm", {&y}, {x, w, b}, [=](Backward& g) {
//     kernels::layer_norm_bwd(stream, g.dy(), x, ..., g.grad(0), g.grad(1), g.grad(2));
//   });
//
// A rule must not capture one of its own outputs with its place on the tape (a cycle): capture
// y.detach().
#pragma once
#include <functional>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace sg {

// Where a kernel puts a gradient. An empty one is not wanted. A kernel overwrites `tensor`, or adds
// to it where `accumulate` is set, so no gradient is ever cleared beforehand.
struct Grad {
  Out tensor;
  bool accumulate = false;
  explicit operator bool() const { return tensor.defined(); }
};

namespace autograd {

struct Node;

// The arguments of a rule: gradients of the outputs, and places for those of the inputs.
class Backward {
 public:
  explicit Backward(Node& node) : node_(node) {}

  // Gradient of an output; undefined where none reached it (possible with several outputs).
  const Tensor& dy(int output = 0) const;
  // True when input i takes part in the tape.
  bool wants(int input) const;
  // The place for the gradient of input i, to be written before the rule returns; empty when not
  // wanted. Each input may be asked for once.
  Grad grad(int input);
  // For kernels that cannot add: a place that is always overwritten, added by the tape afterwards.
  Tensor fresh_grad(int input);
  // Hands an existing tensor on as (or adds it to) the gradient of input i, without a copy.
  void pass(int input, const Tensor& gradient);

  // Sums of dy over all but its last dimension, of the dtype acc_dtype(dy): defined where
  // ask_for_column_sums() asked and whoever wrote dy had them at hand.
  const Tensor& dy_column_sums(int output = 0) const;
  // The place for those of the gradient of input i, where they are wanted and no other gradient has
  // come; undefined else. To be asked for before the gradient's own place, and written with it.
  Tensor column_sums(int input);

 private:
  friend void run_node(Node&);
  Node& node_;
  std::vector<std::pair<int, Tensor>> fresh_;
};

using BackwardFn = std::function<void(Backward&)>;

// Recording on this thread is on, unless a scope turned it off.
bool enabled();
class GradMode {
 public:
  explicit GradMode(bool on);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool before_;
};
struct NoGrad : GradMode {
  NoGrad() : GradMode(false) {}
};

bool requires_grad(const Tensor& t);
// Would record() keep a rule for these inputs?
bool recording(const std::vector<Tensor>& inputs);

// Puts the outputs on the tape, when recording(inputs).
void record(const char* name, const std::vector<Tensor*>& outputs,
            const std::vector<Tensor>& inputs, BackwardFn rule);

// The rule that made `output` can use the column sums of its gradient: they are the gradient of a
// bias, and who writes a gradient has it in registers, so that no pass over memory is needed.
void ask_for_column_sums(const Tensor& output);

// For an operation without a gradient: throws when one would be asked of it.
void refuse_grad(const char* name, const std::vector<Tensor>& inputs);

// A leaf: gradients of `value` are collected. `buffer`, if given, is where they are written, and
// has the dtype acc_dtype(value): the gradients of bf16 weights are f32.
Tensor leaf(const Tensor& value, Tensor buffer = {});
// The gradient collected in a leaf since the last clear_grad(); undefined where none reached it.
Tensor grad_of(const Tensor& leaf);
// The next gradient overwrites what the leaf holds.
void clear_grad(const Tensor& leaf);

// Nothing has reached the leaf: its gradient becomes zero, and the next one is added to it.
void zero_grad(const Tensor& leaf);

// While it lives, `listener` is told on this thread when a rule has written into the gradient of a
// leaf: after the work was issued, once a rule, and within recompute() by the rules inside. So a
// gradient is complete with the last of its writes in a step, and can be sent on while backward
// still runs (nn/gradient_slices.h).
class LeafWrites {
 public:
  using Listener = std::function<void(const char* operation, const Tensor& grad)>;
  explicit LeafWrites(Listener listener);
  ~LeafWrites();
  LeafWrites(const LeafWrites&) = delete;
  LeafWrites& operator=(const LeafWrites&) = delete;

 private:
  Listener listener_;
  const Listener* before_;
};

// Adds the gradients of `outputs`, given theirs, to the leaves. The tape is consumed as it runs:
// memory is freed early, and a second pass over the same outputs is an error. column_sums: those of
// the gradients, each undefined where it is not at hand; or none.
void backward(const std::vector<Tensor>& outputs, const std::vector<Tensor>& gradients,
              const std::vector<Tensor>& column_sums = {});
// The same for a scalar, with gradient 1.
void backward(const Tensor& loss);

}  // namespace autograd
}  // namespace sg
