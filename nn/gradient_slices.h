// Gradients are handed over while backward still runs: the flat buffer in contiguous slices, each
// when the last write into it has been issued.
//
// Slices are handed over in the order of the table, not in the order in which they become ready, so
// that all processes send the same one. The previous backward of the same key counted how often
// each gradient is written (parameters may be shared, and used in recomputed segments), so the last
// write is known. The first backward of a key hands over all slices at its end.
#pragma once
#include <cstdint>
#include <map>
#include <vector>

#include "nn/parameters.h"

namespace sg::nn {

class Reducer {
 public:
  virtual ~Reducer() = default;
  // Slice `index` of the table: complete with the work issued so far to the device's stream, and
  // not written again in this step. A parameter that nothing reached is zero.
  virtual void reduce(size_t index, Tensor& slice) = 0;
  // All have been handed over; work issued from now on reads the results.
  virtual void join() = 0;
};

// docs/scaling.md has how they were chosen.
constexpr int64_t kSliceElements = int64_t{1} << 22;
constexpr int64_t kLastSliceShare = 8;

struct GradientRange {
  int64_t begin, end;  // elements of ParameterStore::grads()
};
// Whole parameters, `elements` or a little more a slice, without frozen ones at its ends. The last
// slice is small, since no work is left to hide it: what of the last parameters fits into an
// eighth, but one at least. A function of the parameters and `elements` alone. The parameters must
// be allocated.
std::vector<GradientRange> slice_table(const ParameterStore& parameters,
                                       int64_t elements = kSliceElements);
// As a checkpoint has it. Throws ExitCode::checkpoint where a slice ends within a parameter.
std::vector<GradientRange> slice_table(const ParameterStore& parameters,
                                       const std::vector<int64_t>& ends);

class GradientSlices {
 public:
  // A table of slice_table(), of these parameters.
  GradientSlices(ParameterStore& parameters, Reducer& reducer, std::vector<GradientRange> table);

  const std::vector<GradientRange>& table() const { return table_; }

  // Runs autograd::backward(loss), the last one of a step, and hands over the slices. `key` is what
  // decides which operations run. Throws ExitCode::failure, naming the parameter, where a gradient
  // is written more or less often than before.
  void backward(const std::vector<uint64_t>& key, const Tensor& loss);
  // Hands over the slices as they are.
  void send();

 private:
  Tensor slice(size_t index) const;

  ParameterStore& parameters_;
  Reducer& reducer_;
  std::vector<const Parameter*> in_order_;  // of the flat buffer
  std::vector<size_t> slice_of_;            // of each
  std::vector<GradientRange> table_;
  std::map<std::vector<uint64_t>, std::vector<int>> writes_;  // by key: of each gradient
};

}  // namespace sg::nn
