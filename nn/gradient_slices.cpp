#include "nn/gradient_slices.h"

#include <algorithm>

namespace sg::nn {

GradientSlices::GradientSlices(ParameterStore& parameters, Reducer& reducer, int64_t elements)
    : parameters_(parameters), reducer_(reducer), in_order_(parameters.in_order()) {
  check(elements >= 1, "gradient slices: elements: expected at least 1, found {}", elements);
  for (size_t i = 0; i < in_order_.size(); ++i) {
    const int64_t end =
        i + 1 < in_order_.size() ? in_order_[i + 1]->offset : parameters.grads().numel();
    if (table_.empty() || table_.back().end - table_.back().begin >= elements)
      table_.push_back({in_order_[i]->offset, end});
    table_.back().end = end;
    slice_of_.push_back(table_.size() - 1);
  }
}

void GradientSlices::backward(const std::vector<uint64_t>& key, const Tensor& loss) {
  const size_t n = in_order_.size();
  const auto known = writes_.find(key);
  const std::vector<int>* const expected = known == writes_.end() ? nullptr : &known->second;
  std::vector<int> written(n, 0), open(table_.size(), 0);  // gradients a slice waits for
  if (expected)
    for (size_t i = 0; i < n; ++i) open[slice_of_[i]] += (*expected)[i] > 0;

  size_t next = 0;  // the next slice to hand over
  const auto send_complete = [&] {
    for (; next < table_.size() && open[next] == 0; ++next) {
      for (size_t i = 0; i < n; ++i)
        if (slice_of_[i] == next && !autograd::grad_of(in_order_[i]->value))
          autograd::zero_grad(in_order_[i]->value);
      Tensor slice = parameters_.grads().slice(table_[next].begin, table_[next].end);
      reducer_.reduce(next, slice);
    }
  };
  {
    const auto* const base = static_cast<const std::byte*>(parameters_.grads().raw());
    const auto wrote = [&](const char* operation, const Tensor& grad) {
      const auto offset = static_cast<const std::byte*>(grad.raw()) - base;
      if (offset < 0 || offset >= int64_t(parameters_.grads().bytes())) return;  // another leaf
      const auto at = std::ranges::upper_bound(in_order_, offset / int64_t(size_of(grad.dtype())),
                                               {}, &Parameter::offset);
      const size_t i = size_t(at - in_order_.begin()) - 1;
      ++written[i];
      if (!expected) return;
      check(written[i] <= (*expected)[i],
            "gradient of {}: written once more, by {}, than the {} times of the step before",
            in_order_[i]->parts[0].name, operation, (*expected)[i]);
      if (written[i] < (*expected)[i]) return;
      --open[slice_of_[i]];
      send_complete();
    };
    const autograd::LeafWrites scope(wrote);
    if (expected) send_complete();  // slices that no gradient will reach
    autograd::backward(loss);
  }
  if (expected) {
    for (size_t i = 0; i < n; ++i)
      check(written[i] == (*expected)[i],
            "gradient of {}: written {} times in this step, {} times in the step before",
            in_order_[i]->parts[0].name, written[i], (*expected)[i]);
  } else {
    writes_.emplace(key, std::move(written));
    send_complete();
  }
  reducer_.join();
}

}  // namespace sg::nn
