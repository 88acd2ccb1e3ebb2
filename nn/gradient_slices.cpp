#include "nn/gradient_slices.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

namespace sg::nn {

namespace {

int64_t end_of(const Parameter& p) { return p.offset + p.shape.numel(); }

}  // namespace

std::vector<GradientRange> slice_table(const ParameterStore& parameters, int64_t elements) {
  check(elements >= 1, "gradient slices: elements: expected at least 1, found {}", elements);
  const std::vector<const Parameter*> in_order = parameters.in_order();
  size_t last = in_order.size();  // the first parameter of the last slice
  while (last > 0 &&
         (last == in_order.size() ||
          end_of(*in_order.back()) - in_order[last - 1]->offset <= elements / kLastSliceShare))
    --last;
  std::vector<GradientRange> table;
  for (size_t i = 0; i < in_order.size(); ++i) {
    const int64_t begin = in_order[i]->offset;
    if (i == 0 || i == last || begin - table.back().begin >= elements)
      table.push_back({begin, begin});
    table.back().end = end_of(*in_order[i]);
  }
  return table;
}

std::vector<GradientRange> slice_table(const ParameterStore& parameters,
                                       const std::vector<int64_t>& ends) {
  const auto wrong = [&] {
    fail(ExitCode::checkpoint,
         "gradient slices that end at {}: expected ends of parameters of the model, in order, the "
         "last one for all of its {} elements",
         fmt::join(ends, ", "), parameters.grads().numel());
  };
  if (std::ranges::adjacent_find(ends, std::greater_equal{}) != ends.end() || ends.empty() ||
      ends.back() > parameters.grads().numel())
    wrong();
  std::vector<GradientRange> table;
  auto end = ends.begin();
  for (const Parameter* p : parameters.in_order()) {
    const auto next = std::upper_bound(end, ends.end(), p->offset);
    if (next == ends.end() || end_of(*p) > *next) wrong();
    if (table.empty() || next != end) table.push_back({p->offset, p->offset});
    table.back().end = end_of(*p);
    end = next;
  }
  return table;
}

GradientSlices::GradientSlices(ParameterStore& parameters, Reducer& reducer,
                               std::vector<GradientRange> table)
    : parameters_(parameters),
      reducer_(reducer),
      in_order_(parameters.in_order()),
      table_(std::move(table)) {
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
