#include "ops/sampled_loss/sampled_loss.h"

#include "core/profile.h"

namespace sg {
namespace {

SampledRows rows_of(const char* op, const std::vector<Tensor>& maps, int64_t width) {
  check(!maps.empty() && maps.size() <= size_t(kMaxSampledMaps),
        "{}: maps: expected 1 to {}, found {}", op, kMaxSampledMaps, maps.size());
  SampledRows rows;
  for (const Tensor& x : maps) {
    check(x.defined() && x.dims() >= 1, "{}: maps: expected at least one dimension", op);
    check_like(op, "maps", x, maps[0]);
    check(x.dim(0) == maps[0].dim(0), "{}: maps: expected a batch of {} as the first, found {}", op,
          maps[0].dim(0), x.shape().str());
    rows.images = x.dim(0);
    const int64_t elements = rows.images ? x.numel() / rows.images : 0;
    check(elements % width == 0, "{}: maps: expected rows of {}, found {}", op, width,
          x.shape().str());
    rows.of_map[rows.maps++] = elements / width;
    rows.of_image += elements / width;
  }
  return rows;
}

void check_index(const char* op, const char* name, const Tensor& index, const Tensor& x) {
  check_dims(op, name, index, 1);
  check(index.dtype() == Dtype::i32 && index.device() == x.device(),
        "{}: {}: expected i32 on {}, found {} on {}", op, name, str(x.device()),
        name_of(index.dtype()), str(index.device()));
}

// What the gradients of maps are written to: zero, and then added to.
std::vector<Grad> zeroed(autograd::Backward& g, size_t maps) {
  std::vector<Grad> grads;
  for (size_t i = 0; i < maps; ++i) {
    grads.push_back(g.grad(int(i)));
    Grad& last = grads.back();
    if (last && !last.accumulate) last.tensor.zero_();
    last.accumulate = true;
  }
  return grads;
}

}  // namespace

Tensor sampled_binary_cross_entropy(const std::vector<Tensor>& logits, const Tensor& positive,
                                    const Tensor& negative, double divisor) {
  constexpr const char* op = "sampled_binary_cross_entropy";
  const SampledRows rows = rows_of(op, logits, 1);
  check_index(op, "positive", positive, logits[0]);
  check_index(op, "negative", negative, logits[0]);
  check(divisor > 0, "{}: divisor: expected more than 0, found {}", op, divisor);
  Tensor loss = empty({1}, acc_dtype(logits[0].dtype()), logits[0].device());
  const double n = double(positive.numel() + negative.numel());
  {
    const profile::OpScope scope("sampled_binary_cross_entropy.fwd", 8 * n, 8 * n);
    kernels::sampled_bce_fwd(loss.stream(), logits, rows, positive, negative, divisor, loss);
  }
  autograd::record(op, {&loss}, logits, [=](autograd::Backward& g) {
    const profile::OpScope scope("sampled_binary_cross_entropy.bwd", 8 * n, 12 * n);
    kernels::sampled_bce_bwd(g.dy().stream(), g.dy(), logits, rows, positive, negative, divisor,
                             zeroed(g, logits.size()));
  });
  return loss;
}

Tensor sampled_l1(const std::vector<Tensor>& deltas, const Tensor& index, const Tensor& targets,
                  double divisor) {
  constexpr const char* op = "sampled_l1";
  const SampledRows rows = rows_of(op, deltas, 4);
  check_index(op, "index", index, deltas[0]);
  check_shape(op, "targets", targets, {index.dim(0), 4});
  check_acc_dtype(op, "targets", targets, deltas[0]);
  autograd::refuse_grad("sampled_l1: targets", {targets});
  check(divisor > 0, "{}: divisor: expected more than 0, found {}", op, divisor);
  Tensor loss = empty({1}, targets.dtype(), targets.device());
  const double n = double(targets.numel());
  {
    const profile::OpScope scope("sampled_l1.fwd", 2 * n, 8 * n);
    kernels::sampled_l1_fwd(loss.stream(), deltas, rows, index, targets, divisor, loss);
  }
  autograd::record(op, {&loss}, deltas, [=](autograd::Backward& g) {
    const profile::OpScope scope("sampled_l1.bwd", 2 * n, 12 * n);
    kernels::sampled_l1_bwd(g.dy().stream(), g.dy(), deltas, rows, index, targets, divisor,
                            zeroed(g, deltas.size()));
  });
  return loss;
}

}  // namespace sg
