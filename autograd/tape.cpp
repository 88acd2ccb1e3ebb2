#include "autograd/tape.h"

#include <algorithm>
#include <queue>

#include "autograd/add_into.h"

namespace sg::autograd {

// A gradient as it is collected.
struct GradAccumulator {
  Tensor grad;            // a leaf with a buffer: the buffer
  bool has_grad = false;  // `grad` holds a gradient, to which the next one is added
  bool written = false;   // by the rule that is running
  bool wants_sums = false;
  Tensor sums;  // column sums of `grad`, as long as it comes from one operation
};

struct Node {
  struct Edge {  // an input: enough to make room for its gradient without keeping its data
    std::shared_ptr<AutogradMeta> meta;
    Shape shape;
    Dtype dtype;
    Device device;
  };
  const char* name;
  uint64_t order;
  std::vector<Edge> inputs;
  std::vector<GradAccumulator> outputs;
  std::vector<Tensor> dy;  // gradients of the outputs while the rule runs
  BackwardFn rule;
  bool queued = false, done = false;
};

// A tensor's place on the tape: a leaf, or an output of a node.
struct AutogradMeta {
  std::shared_ptr<Node> producer;  // null for a leaf
  size_t output = 0;
  GradAccumulator leaf;

  GradAccumulator& collected() { return producer ? producer->outputs[output] : leaf; }
};

namespace {

thread_local bool g_enabled = true;
thread_local uint64_t g_order = 0;
thread_local const LeafWrites::Listener* g_listener = nullptr;

// Adds g to the gradient of meta. g may be shared: it is adopted without a copy, but not written to
// while another reference exists. A leaf gets a copy, because later gradients are added to it.
void collect(AutogradMeta& meta, const Tensor& g) {
  GradAccumulator& c = meta.collected();
  if (!c.has_grad) {
    if (c.grad.defined())  // a leaf's own memory
      c.grad.copy_(g);
    else
      c.grad = meta.producer ? g.detach() : g.clone();
  } else {
    if (meta.producer && !c.grad.unshared()) c.grad = c.grad.clone();
    add_into(g, c.grad);
    c.sums = {};
  }
  c.has_grad = c.written = true;
}

}  // namespace

const Tensor& Backward::dy(int output) const { return node_.dy[size_t(output)]; }

bool Backward::wants(int input) const { return node_.inputs[size_t(input)].meta != nullptr; }

Grad Backward::grad(int input) {
  const Node::Edge& edge = node_.inputs[size_t(input)];
  if (!edge.meta) return {};
  GradAccumulator& c = edge.meta->collected();
  if (!c.grad.defined())
    c.grad = empty(edge.shape, edge.dtype, edge.device);
  else if (edge.meta->producer && !c.grad.unshared())  // a leaf's buffer is shared by design
    c.grad = c.grad.clone();
  if (c.has_grad) c.sums = {};
  c.written = true;
  return {c.grad, std::exchange(c.has_grad, true)};
}

Tensor Backward::fresh_grad(int input) {
  const Node::Edge& edge = node_.inputs[size_t(input)];
  if (!edge.meta) return {};
  GradAccumulator& c = edge.meta->collected();
  if (!c.has_grad) {
    grad(input);
    return c.grad;
  }
  return fresh_.emplace_back(input, empty(edge.shape, edge.dtype, edge.device)).second;
}

void Backward::forward_grad(int input, const Tensor& gradient) {
  if (wants(input)) collect(*node_.inputs[size_t(input)].meta, gradient);
}

const Tensor& Backward::dy_column_sums(int output) const {
  return node_.outputs[size_t(output)].sums;
}

Tensor Backward::column_sums(int input) {
  const Node::Edge& edge = node_.inputs[size_t(input)];
  if (!edge.meta) return {};
  GradAccumulator& c = edge.meta->collected();
  if (!c.wants_sums || c.has_grad) return {};
  c.sums = empty({edge.shape[edge.shape.size() - 1]}, acc_dtype(edge.dtype), edge.device);
  return c.sums;
}

bool enabled() { return g_enabled; }
GradMode::GradMode(bool on) : before_(std::exchange(g_enabled, on)) {}
GradMode::~GradMode() { g_enabled = before_; }

bool requires_grad(const Tensor& t) { return t.meta() != nullptr; }

bool recording(const std::vector<Tensor>& inputs) {
  return g_enabled && std::any_of(inputs.begin(), inputs.end(), requires_grad);
}

void record(const char* name, const std::vector<Tensor*>& outputs,
            const std::vector<Tensor>& inputs, BackwardFn rule) {
  if (!recording(inputs)) return;
  auto node = std::make_shared<Node>();
  node->name = name;
  node->order = ++g_order;
  for (const Tensor& t : inputs)
    node->inputs.push_back(t.meta() ? Node::Edge{t.meta(), t.shape(), t.dtype(), t.device()}
                                    : Node::Edge{});
  for (Tensor* t : outputs) {
    auto meta = std::make_shared<AutogradMeta>();
    meta->producer = node;
    meta->output = node->outputs.size();
    node->outputs.emplace_back();
    t->set_meta(std::move(meta));
  }
  node->rule = std::move(rule);
}

void ask_for_column_sums(const Tensor& output) {
  if (requires_grad(output)) output.meta()->collected().wants_sums = true;
}

void refuse_grad(const char* name, const std::vector<Tensor>& inputs) {
  check(!recording(inputs),
        "{}: has no gradient, but one of its inputs requires one; detach the input or use NoGrad",
        name);
}

Tensor leaf(const Tensor& value, Tensor buffer) {
  if (buffer.defined()) {
    check_shape("leaf", "gradient buffer", buffer, value.shape());
    check_acc_dtype("leaf", "gradient buffer", buffer, value);
  }
  Tensor t = value.detach();
  auto meta = std::make_shared<AutogradMeta>();
  meta->leaf.grad = std::move(buffer);
  t.set_meta(std::move(meta));
  return t;
}

namespace {
GradAccumulator& of_leaf(const char* function, const Tensor& t) {
  check(t.meta() && !t.meta()->producer, "{}: the tensor is not a leaf", function);
  return t.meta()->leaf;
}
}  // namespace

Tensor grad_of(const Tensor& t) {
  const GradAccumulator& c = of_leaf("grad_of", t);
  return c.has_grad ? c.grad : Tensor();
}

void clear_grad(const Tensor& t) { of_leaf("clear_grad", t).has_grad = false; }

void keep_grad(const Tensor& t) {
  GradAccumulator& c = of_leaf("keep_grad", t);
  check(c.grad.defined(), "keep_grad: the leaf has no buffer");
  c.has_grad = true;
}

void zero_grad(const Tensor& t) {
  GradAccumulator& c = of_leaf("zero_grad", t);
  check(!c.has_grad && c.grad.defined(), "zero_grad: the leaf has a gradient, or no buffer");
  c.grad.zero_();
  c.has_grad = true;
}

LeafWrites::LeafWrites(Listener listener)
    : listener_(std::move(listener)), before_(std::exchange(g_listener, &listener_)) {}
LeafWrites::~LeafWrites() { g_listener = before_; }

void run_node(Node& node) {
  check(!node.done, "backward: {} was already differentiated; its saved tensors are gone",
        node.name);
  node.done = true;
  const NoGrad no_grad;
  for (GradAccumulator& c : node.outputs)
    node.dy.push_back(c.has_grad ? std::exchange(c.grad, Tensor()) : Tensor());
  Backward g(node);
  node.rule(g);
  node.rule = nullptr;
  node.dy.clear();
  for (GradAccumulator& c : node.outputs) c.sums = {};
  for (const auto& [input, t] : g.fresh_) collect(*node.inputs[size_t(input)].meta, t);
  for (const Node::Edge& edge : node.inputs)
    if (edge.meta && !edge.meta->producer && std::exchange(edge.meta->leaf.written, false))
      if (g_listener) (*g_listener)(node.name, edge.meta->leaf.grad);
}

void backward(const std::vector<Tensor>& outputs, const std::vector<Tensor>& gradients,
              const std::vector<Tensor>& column_sums) {
  check(outputs.size() == gradients.size(), "backward: {} outputs but {} gradients", outputs.size(),
        gradients.size());
  // Consumers were recorded after producers, so the latest node has all of its gradients.
  const auto earlier = [](const auto& a, const auto& b) { return a->order < b->order; };
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, decltype(earlier)>
      queue(earlier);
  const auto enqueue = [&](AutogradMeta& meta) {
    if (meta.producer && meta.collected().has_grad && !std::exchange(meta.producer->queued, true))
      queue.push(meta.producer);
  };
  for (size_t i = 0; i < outputs.size(); ++i) {
    check(requires_grad(outputs[i]), "backward: output {} does not depend on any leaf", i);
    check_shape("backward", "gradient", gradients[i], outputs[i].shape());
    check_like("backward", "gradient", gradients[i], outputs[i]);
    const auto& producer = outputs[i].meta()->producer;
    check(!producer || !producer->done,
          "backward: {} was already differentiated; its saved tensors are gone", producer->name);
    AutogradMeta& meta = *outputs[i].meta();
    GradAccumulator& c = meta.collected();
    if (!column_sums.empty() && c.wants_sums && !c.has_grad) c.sums = column_sums[i];
    collect(meta, gradients[i].detach());  // a constant: there are no second derivatives
    enqueue(meta);
  }
  while (!queue.empty()) {
    const std::shared_ptr<Node> node = queue.top();
    queue.pop();
    run_node(*node);
    for (const Node::Edge& edge : node->inputs)
      if (edge.meta) enqueue(*edge.meta);
    node->inputs.clear();
  }
}

void backward(const Tensor& loss) {
  check(loss.numel() == 1, "backward: a loss has one element, found {}", loss.shape().str());
  backward({loss}, {full(loss.shape(), 1.0, loss.dtype(), loss.device())});
}

}  // namespace sg::autograd
