#include "nn/gradient_slices.h"

#include <algorithm>
#include <utility>

namespace sg::nn {

std::vector<GradientRange> slice_table(const ParameterStore& parameters, int64_t elements) {
  check(elements >= 1, "gradient slices: elements: expected at least 1, found {}", elements);
  const std::vector<const Parameter*> in_order = parameters.in_order();
  const int64_t end = parameters.grads().numel();
  size_t last = in_order.size();  // the first parameter of the last slice
  while (last > 0 && (last == in_order.size() ||
                      end - in_order[last - 1]->offset <= elements / kLastSliceShare))
    --last;
  std::vector<GradientRange> table;
  for (size_t i = 0; i < in_order.size(); ++i) {
    const int64_t offset = in_order[i]->offset;
    if (i == 0 || i == last || offset - table.back().begin >= elements) {
      if (i > 0) table.back().end = offset;
      table.push_back({offset, end});
    }
  }
  return table;
}

GradientSlices::GradientSlices(ParameterStore& parameters, Reducer& reducer, int64_t elements)
    : parameters_(parameters),
      reducer_(reducer),
      in_order_(parameters.in_order()),
      table_(slice_table(parameters, elements)) {
  assign_parameters();
}

GradientSlices::GradientSlices(ParameterStore& parameters, Reducer& reducer,
                               const std::vector<int64_t>& ends)
    : parameters_(parameters), reducer_(reducer), in_order_(parameters.in_order()) {
  int64_t begin = 0;
  for (const int64_t end : ends) {
    const auto is_end = [&](const Parameter* p) { return p->offset == end; };
    if (end <= begin ||
        (end != parameters.grads().numel() && std::ranges::none_of(in_order_, is_end)))
      fail(ExitCode::checkpoint, "gradient slices: no parameter of the model ends at element {}",
           end);
    table_.push_back({std::exchange(begin, end), end});
  }
  if (begin != parameters.grads().numel())
    fail(ExitCode::checkpoint, "gradient slices: expected {} elements, found {}",
         parameters.grads().numel(), begin);
  assign_parameters();
}

void GradientSlices::assign_parameters() {
  for (const Parameter* p : in_order_)
    slice_of_.push_back(size_t(
        std::ranges::upper_bound(table_, p->offset, {}, &GradientRange::end) - table_.begin()));
}

Tensor GradientSlices::slice(size_t index) const {
  return parameters_.grads().slice(table_[index].begin, table_[index].end);
}

void GradientSlices::send() {
  for (size_t i = 0; i < table_.size(); ++i) {
    Tensor whole = slice(i);
    reducer_.reduce(i, whole);
  }
  reducer_.join();
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
      Tensor complete = slice(next);
      reducer_.reduce(next, complete);
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
