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
    std::vector<Tensor> leaves, again, dy;
    for (size_t i = 0; i < inputs.size(); ++i)
      leaves.push_back(g.wants(int(i)) ? leaf(inputs[i]) : inputs[i].detach());
    {
      const GradMode on(true);
      const std::vector<Tensor> all = f(leaves);
      for (int i = 0; i < differentiable; ++i)
        if (g.dy(i)) again.push_back(all[size_t(i)]), dy.push_back(g.dy(i));
    }
    backward(again, dy);
    for (size_t i = 0; i < inputs.size(); ++i)
      if (g.wants(int(i)))
        if (const Tensor d = grad_of(leaves[i])) g.pass(int(i), d);
  });
  return outputs;
}

}  // namespace sg::autograd
