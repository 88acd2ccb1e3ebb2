// Checks this implementation against golden files: reference tensors from the official PyTorch
// code. Everything is driven by a file's metadata: weights, inputs and upstream gradients are made
// by its formula.
#pragma once
#include <filesystem>

#include "tools/golden/case.h"

namespace sg::golden {

struct Result {
  std::string module;     // "" where the file names none
  std::vector<Row> rows;  // one per tensor of the file, that nearest to its bound first
  bool checked() const { return !rows.empty(); }
  bool passed() const { return checked() && rows.front().passed(); }
};

// In f64, which cuda does not have; or in f32 or bf16, and then tokens are ranked by the
// significance of the file, because near-ties flip under rounding. A module that is not known here
// (kinds.h) is not checked. Throws when the file is not of the golden form.
Result check_golden(const std::filesystem::path& file, Dtype dtype, Device device = {});

// A .safetensors that describes its tensors by metadata, or a .json that names its module; of a
// kind that is checked here or not.
bool is_golden(const std::filesystem::path& file);

}  // namespace sg::golden
