// Sums gradients over the ranks of a run: what nn::GradientSlices hands over goes to the
// communicator, and with the last slice the step's message.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "dist/communicator.h"
#include "nn/gradient_slices.h"
#include "nn/tree_sum.h"

namespace sg::train {

// ring: as the communicator sums, fast. fixed: as nn::TreeSum adds those of the ranks, in the
// memory of as many gradients as there are ranks.
enum class ReduceOrder { ring, fixed };
ReduceOrder parse_reduce_order(std::string_view name);  // throws ExitCode::usage

class GradientReducer final : public nn::Reducer {
 public:
  // `message`: small, summed in every step after the slices.
  GradientReducer(dist::Communicator& communicator, ReduceOrder order, dist::Wire wire,
                  Tensor message);
  // Makes ready for slices of this table; before the first step.
  void set_table(const std::vector<nn::GradientRange>& table, const Tensor& grads);

  void reduce(size_t index, Tensor& slice) override;
  void join() override;

 private:
  struct Gathered {
    Tensor sum, of_ranks;  // (n) and (ranks, n)
    nn::TreeSum tree;
  };
  void start(size_t index, Tensor sum, dist::Wire wire);
  Gathered gathered_for(const Tensor& sum) const;

  dist::Communicator& communicator_;
  ReduceOrder order_;
  dist::Wire wire_;
  Tensor message_;
  std::vector<std::string> names_;  // of the slices, then of the message
  std::vector<Gathered> gathered_;  // the same, where the order is fixed
};

}  // namespace sg::train
