#include "autograd/recompute.h"

#include "autograd/tape.h"

namespace sg::autograd {

std::vector<Tensor> recompute(const Segment& f, const std::vector<Tensor>& inputs,
                              int differentiable) {
  if (!recording(inputs)) return f(inputs);
  std::vector<Tensor> outputs;
  {
    const NoGrad no_grad;
    outputs = f(inputs);
  }
  std::vector<Tensor*> recorded;
  for (int i = 0; i < differentiable; ++i) recorded.push_back(&outputs[size_t(i)]);
  record("recompute", recorded, inputs, [=](Backward& g) {
    std::vector<Tensor> in, again, dy, sums;
    const GradMode on(true);
    for (size_t i = 0; i < inputs.size(); ++i) {
      in.push_back(inputs[i].detach());
      if (!g.wants(int(i))) continue;
      // Its gradient, and the column sums of it, if any, are those of inputs[i].
      record("recompute.input", {&in[i]}, {leaf(inputs[i])}, [&g, i](Backward& inner) {
        if (const Tensor& from = inner.dy_column_sums())
          if (Tensor to = g.column_sums(int(i))) to.copy_(from);
        g.forward_grad(int(i), inner.dy());
      });
      ask_for_column_sums(in[i]);
    }
    const std::vector<Tensor> all = f(in);
    for (int i = 0; i < differentiable; ++i)
      if (g.dy(i)) {
        again.push_back(all[size_t(i)]), dy.push_back(g.dy(i));
        sums.push_back(g.dy_column_sums(i));
      }
    backward(again, dy, sums);
  });
  // The last operation of f may use the column sums of the gradients.
  for (const Tensor* t : recorded) ask_for_column_sums(*t);
  return outputs;
}

}  // namespace sg::autograd
