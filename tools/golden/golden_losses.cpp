#include "tools/golden/golden_losses.h"

#include "autograd/tape.h"
#include "ops/pixel_cross_entropy/pixel_cross_entropy.h"

namespace sg::golden {
namespace {

// A leaf of logits (B, H, W, C).
Tensor logits_of(const Case& c, const char* name) {
  const Shape official = c.shape(std::string(name) + "_shape", 4);
  return autograd::leaf(c.place(transpose_map(scaled_logits(c, name, official), true)));
}

Tensor number(double v) { return full({1}, v, Dtype::f64); }

}  // namespace

Tensor scaled_logits(const Case& c, const std::string& name, const Shape& shape) {
  Tensor u = c.uniform(name, shape);
  const double scale = c.file.metadata().contains("logit_scale") ? c.real("logit_scale") : 1;
  dispatch<float, double>(u.dtype(), "golden", [&]<class T>() {
    for (T& v : u.span<T>()) v = T(double(v) * scale);
  });
  return u;
}

Bounds loss_bounds(Dtype dtype) {
  if (dtype == Dtype::f64) return {1e-12, 1e-9};
  if (dtype == Dtype::f32) return {1e-4, 1e-4};
  return {0x1p-6, 0x1p-6};  // rounding logits of up to 4 by 2^-9 moves a probability by twice that
}

std::vector<Row> check_segmentation_loss(const Case& c) {
  Comparison result(c, loss_bounds(c.dtype));
  const Tensor labels = result.given("labels").to(c.device);
  const Tensor logits = logits_of(c, "logits"), aux_logits = logits_of(c, "aux");
  const auto loss_of = [&](const Tensor& z) {
    return pixel_cross_entropy(z, labels, int(c.number("ignore")));
  };
  const Tensor decode = loss_of(logits), aux = loss_of(aux_logits);
  const double weight = c.real("aux_weight");
  autograd::backward({decode, aux}, {full({1}, 1, decode.dtype(), c.device),
                                     full({1}, weight, aux.dtype(), c.device)});
  result.add("loss_decode", decode);
  result.add("loss_aux", aux);
  result.add("loss", number(decode.item() + weight * aux.item()));
  result.add_map("grad_logits", autograd::grad_of(logits));
  result.add_map("grad_aux", autograd::grad_of(aux_logits));
  return result.finish();
}

}  // namespace sg::golden
