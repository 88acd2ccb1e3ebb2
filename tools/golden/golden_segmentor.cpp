#include "tools/golden/golden_segmentor.h"

#include "sgformer/segment/segmentor.h"

namespace sg::golden {

std::vector<Row> check_segmentor(const Case& c) {
  check(c.dtype == Dtype::f64, "{}: a segmentor is compared in f64, found {}",
        c.file.path().string(), name_of(c.dtype));
  sgformer::Segmentor model(
      sgformer::find_segmentor_config(c.text("model"), c.text("head"), c.number("classes")));
  c.fill(model.parameters());
  const auto out =
      model.forward(c.uniform_map("input", c.shape("input_shape", 4)), {.training = true});
  std::vector<Tensor> outputs{out.logits}, upstream;
  if (out.aux_logits) outputs.push_back(out.aux_logits);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Shape& s = outputs[i].shape();
    upstream.push_back(c.uniform_map(fmt::format("grad.{}", i), {s[0], s[3], s[1], s[2]}));
  }
  autograd::backward(outputs, upstream);

  Comparison comparison(c, {1e-9, 1e-9});
  for (size_t i = 0; i < outputs.size(); ++i)
    comparison.add_map(fmt::format("output.{}", i), outputs[i]);
  comparison.add_gradients(model.parameters());
  for (const nn::Buffer& b : model.parameters().named_buffers())
    comparison.add("after." + b.name, b.value);
  return comparison.finish();
}

}  // namespace sg::golden
