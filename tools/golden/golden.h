// Checks this implementation against golden files: reference tensors from the official PyTorch
// code. Everything is driven by a file's metadata: weights, inputs and upstream gradients are made
// by its formula.
#pragma once
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "sgformer/config.h"
#include "tools/golden/relative_error.h"

namespace sg::sgformer {

// u[i] of a key, in [-1, 1).
std::vector<float> formula(const std::string& key, int64_t n);
// The value of a parameter under `key`, in official shape, f32.
Tensor formula_parameter(const std::string& key, const std::string& name, const Shape& official);

struct GoldenRow {
  std::string tensor;
  RelativeError error;
  double bound = 0;
  double share_of_bound() const {
    return std::max(error.whole, error.worst_row / error.row_factor) / bound;
  }
  bool passed() const { return error.within(bound); }
};

struct GoldenResult {
  std::string module;           // "" where the file names none
  std::vector<GoldenRow> rows;  // one per tensor of the file, that nearest to its bound first
  bool checked() const { return !rows.empty(); }
  bool passed() const { return checked() && rows.front().passed(); }
};

// What a whole network's outputs may be off, where the ranking of tokens is given. Below f64 each
// result is rounded, as often up as down, so that the errors of n roundings in a row add up to
// sqrt(n) of one. In a row are, in a block at most: norm, spatial reduction, its norm, keys and
// values, probabilities, result, LePE, projection and sum, then norm, fc1, GELU, fc2 and sum, and
// of five of them the weights too: 20; and 38 outside of blocks: stem and patch mergings with 9
// each (three times convolution, weights, norm), norm and head.
double model_bound(const Config& config, Dtype dtype);
// The bound of gradients of parameters. Backward multiplies by the derivative of each module in
// turn (two a block, the stem, three patch mergings), taken where forward was, which is off by
// model_bound().
double model_gradient_bound(const Config& config, Dtype dtype);

// In f64; or in f32 or bf16 where the device has it, and then tokens are ranked by the significance
// of the file, because near-ties flip under rounding. A module that is not known here is not
// checked. Throws when the file is not of the golden form.
GoldenResult check_golden(const std::filesystem::path& file, Dtype dtype, Device device = {});

// A .safetensors that describes its tensors by metadata, of a kind that is checked here or not.
bool is_golden(const std::filesystem::path& file);

}  // namespace sg::sgformer
