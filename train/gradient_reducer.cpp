#include "train/gradient_reducer.h"

namespace sg::train {

ReduceOrder parse_reduce_order(std::string_view name) {
  if (name == "ring") return ReduceOrder::ring;
  if (name == "fixed") return ReduceOrder::fixed;
  fail(ExitCode::usage, "--reduce-order: expected ring or fixed, found '{}'", name);
}

GradientReducer::GradientReducer(dist::Communicator& communicator, ReduceOrder order,
                                 dist::Wire wire, Tensor message)
    : communicator_(communicator), order_(order), wire_(wire), message_(std::move(message)) {}

GradientReducer::Gathered GradientReducer::gathered_for(const Tensor& sum) const {
  const int64_t ranks = communicator_.ranks();
  return {sum, empty({ranks, sum.numel()}, sum.dtype(), sum.device()), nn::TreeSum(sum, ranks)};
}

void GradientReducer::set_table(const std::vector<nn::GradientRange>& table, const Tensor& grads) {
  names_.clear(), gathered_.clear();
  for (size_t i = 0; i < table.size(); ++i)
    names_.push_back(fmt::format("gradient slice {} of {}", i + 1, table.size()));
  names_.push_back("the loss");
  if (order_ != ReduceOrder::fixed) return;
  for (const auto& [begin, end] : table) gathered_.push_back(gathered_for(grads.slice(begin, end)));
  gathered_.push_back(gathered_for(message_));
}

void GradientReducer::start(size_t index, Tensor sum, dist::Wire wire) {
  if (order_ == ReduceOrder::ring)
    communicator_.start_all_reduce(names_[index], std::move(sum), wire);
  else
    communicator_.start_all_gather(names_[index], gathered_[index].sum = std::move(sum),
                                   gathered_[index].of_ranks);
}

void GradientReducer::reduce(size_t index, Tensor& slice) { start(index, slice, wire_); }

void GradientReducer::join() {
  start(names_.size() - 1, message_, dist::Wire::f32);
  communicator_.join();
  const int64_t ranks = communicator_.ranks();
  for (Gathered& g : gathered_)
    for (int64_t r = 0; r < ranks; ++r) {
      Tensor term = g.of_ranks.slice(r, r + 1).view(g.sum.shape());
      g.tree.add(r, term);
      if (r + 1 == ranks) g.sum.copy_(term);
    }
}

}  // namespace sg::train
