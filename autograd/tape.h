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

// What a rule works with: gradients of the outputs, and places for the gradients of the inputs.
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
  // Passes an existing tensor on as the gradient of input i, without a copy, or adds it to it.
  void forward_grad(int input, const Tensor& gradient);

  // Sums of dy over all but its last dimension, of the dtype acc_dtype(dy). Defined if
  // ask_for_column_sums() was called for the output and the operation that wrote dy gave them.
  const Tensor& dy_column_sums(int output = 0) const;
  // The place for the column sums of the gradient of input i; undefined if nobody asked for them or
  // the input has a gradient already. Call it before grad(), and write both.
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

// Asks for the column sums of the gradient of `output`: the gradient of a bias. The operation that
// writes the gradient has it in registers, and sums it without another pass over memory.
void ask_for_column_sums(const Tensor& output);

// For an operation without a gradient rule: throws if an input requires a gradient.
void refuse_grad(const char* name, const std::vector<Tensor>& inputs);

// A leaf: gradients of `value` are collected. `buffer`, if given, is where they are written, and
// has the dtype acc_dtype(value): the gradients of bf16 weights are f32.
Tensor leaf(const Tensor& value, Tensor buffer = {});
// The gradient collected in a leaf since the last clear_grad(); undefined where none reached it.
Tensor grad_of(const Tensor& leaf);
// The next gradient overwrites what the leaf holds.
void clear_grad(const Tensor& leaf);
// The leaf's buffer holds a gradient, to which the next one is added: for one that a graph replay
// wrote (core/graph.h), so that no rule ran on the host.
void keep_grad(const Tensor& leaf);

// For a leaf that no gradient reached: its gradient becomes zero, and the next one is added to it.
void zero_grad(const Tensor& leaf);

// While it lives, `listener` is called on this thread when a rule has written the gradient of a
// leaf: once a rule, after the work was issued; in recompute(), for the rules inside. A gradient is
// complete with its last write in a step, and can then be sent while backward still runs
// (nn/gradient_slices.h).
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

// Adds to every leaf its gradient, given those of `outputs`. The tape is consumed as it runs:
// memory is freed early, and a second pass over the same outputs is an error. column_sums: empty,
// or the column sums of each of `gradients`, undefined where they are not known.
void backward(const std::vector<Tensor>& outputs, const std::vector<Tensor>& gradients,
              const std::vector<Tensor>& column_sums = {});
// The same for a scalar, with gradient 1.
void backward(const Tensor& loss);

}  // namespace autograd
}  // namespace sg
