// Rows are few: one thread takes them in order.
#include <cmath>
#include <vector>

#include "core/acc_type.h"
#include "ops/sampled_loss/sampled_loss.h"

namespace sg {
namespace {

// f(k, place) of each index.
template <class F>
void each_row(const char* op, In index, const SampledRows& rows, const F& f) {
  for (int64_t k = 0; k < index.numel(); ++k) {
    const int64_t i = index.data<int32_t>()[k];
    if (!rows.contains(i))
      fail(ExitCode::data, "{}: row {} of {} does not exist", op, i, rows.images * rows.of_image);
    f(k, rows.at(i));
  }
}

template <class T, class F>
std::vector<T*> pointers(const std::vector<F>& all, const auto& get) {
  std::vector<T*> result;
  for (const F& one : all) result.push_back(get(one));
  return result;
}
template <class S>
std::vector<const S*> data_of(const std::vector<Tensor>& maps) {
  return pointers<const S>(maps, [](const Tensor& t) { return t.data<S>(); });
}
template <class S>
std::vector<S*> data_of(const std::vector<Grad>& grads) {  // null where not wanted
  return pointers<S>(grads, [](const Grad& g) -> S* { return g ? g.tensor.data<S>() : nullptr; });
}

constexpr const char* kBce = "sampled_binary_cross_entropy";

// max(z, 0) - t z + log(1 + exp(-|z|))
void bce_forward(Stream&, const std::vector<Tensor>& logits, const SampledRows& rows, In positive,
                 In negative, double divisor, Out loss) {
  dispatch<float, double, bf16>(logits[0].dtype(), kBce, [&]<class S>() {
    using T = AccType<S>;
    const auto data = data_of<S>(logits);
    double sum = 0;
    const auto add = [&](In index, double target) {
      each_row(kBce, index, rows, [&](int64_t, const SampledRows::Place& at) {
        const auto z = double(T(data[size_t(at.map)][at.row]));
        sum += (z > 0 ? z : 0) - target * z + std::log1p(std::exp(-std::abs(z)));
      });
    };
    add(positive, 1);
    add(negative, 0);
    *loss.data<T>() = T(sum / divisor);
  });
}

void bce_backward(Stream&, In dloss, const std::vector<Tensor>& logits, const SampledRows& rows,
                  In positive, In negative, double divisor, const std::vector<Grad>& dlogits) {
  dispatch<float, double, bf16>(logits[0].dtype(), kBce, [&]<class S>() {
    using T = AccType<S>;
    const auto data = data_of<S>(logits);
    const auto to = data_of<S>(dlogits);
    const T factor = T(double(*dloss.data<T>()) / divisor);
    const auto add = [&](In index, T target) {
      each_row(kBce, index, rows, [&](int64_t, const SampledRows::Place& at) {
        if (!to[size_t(at.map)]) return;
        const T z = T(data[size_t(at.map)][at.row]), e = std::exp(-std::abs(z));
        const T sigmoid = (z < 0 ? e : T(1)) / (1 + e);
        S& d = to[size_t(at.map)][at.row];
        d = S(T(d) + factor * (sigmoid - target));
      });
    };
    add(positive, 1);
    add(negative, 0);
  });
}

void l1_forward(Stream&, const std::vector<Tensor>& deltas, const SampledRows& rows, In index,
                In targets, double divisor, Out loss) {
  dispatch<float, double, bf16>(deltas[0].dtype(), "sampled_l1", [&]<class S>() {
    using T = AccType<S>;
    const auto data = data_of<S>(deltas);
    double sum = 0;
    each_row("sampled_l1", index, rows, [&](int64_t k, const SampledRows::Place& at) {
      for (int64_t i = 0; i < 4; ++i)
        sum += std::abs(double(T(data[size_t(at.map)][4 * at.row + i])) -
                        double(targets.data<T>()[4 * k + i]));
    });
    *loss.data<T>() = T(sum / divisor);
  });
}

void l1_backward(Stream&, In dloss, const std::vector<Tensor>& deltas, const SampledRows& rows,
                 In index, In targets, double divisor, const std::vector<Grad>& ddeltas) {
  dispatch<float, double, bf16>(deltas[0].dtype(), "sampled_l1", [&]<class S>() {
    using T = AccType<S>;
    const auto data = data_of<S>(deltas);
    const auto to = data_of<S>(ddeltas);
    const T factor = T(double(*dloss.data<T>()) / divisor);
    each_row("sampled_l1", index, rows, [&](int64_t k, const SampledRows::Place& at) {
      if (!to[size_t(at.map)]) return;
      for (int64_t i = 0; i < 4; ++i) {
        const T v = T(data[size_t(at.map)][4 * at.row + i]) - targets.data<T>()[4 * k + i];
        S& d = to[size_t(at.map)][4 * at.row + i];
        d = S(T(d) + factor * T((v > 0) - (v < 0)));
      }
    });
  });
}

const Register r1{kernels::sampled_bce_fwd, DeviceType::cpu, bce_forward};
const Register r2{kernels::sampled_bce_bwd, DeviceType::cpu, bce_backward};
const Register r3{kernels::sampled_l1_fwd, DeviceType::cpu, l1_forward};
const Register r4{kernels::sampled_l1_bwd, DeviceType::cpu, l1_backward};

}  // namespace
}  // namespace sg
