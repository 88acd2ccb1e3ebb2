// Checks this implementation against files of golden numbers (spec golden/README.md). Everything is
// driven by a file's metadata: weights, inputs and upstream gradients are made by its formula.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace sg::sgformer {

// u[i] of a key, in [-1, 1).
std::vector<float> formula(const std::string& key, int64_t n);
// The value of a parameter under `key`, in official shape, f32.
Tensor formula_parameter(const std::string& key, const std::string& name, const Shape& official);

struct GoldenRow {
  std::string tensor;
  double error = 0;  // Euclidean norm of the difference over that of the expected tensor
};

struct GoldenResult {
  std::string module;
  std::vector<GoldenRow> rows;  // one a tensor of the file, largest error first
  double bound = 0;             // 1e-9 in f64, 1e-4 in f32
  bool passed() const { return !rows.empty() && rows.front().error <= bound; }
};

// Throws when the file is not of the golden form, or when `dtype` says nothing there: whole models
// are compared in f64 alone, because near-ties of the ranking flip under rounding.
GoldenResult check_golden(const std::filesystem::path& file, Dtype dtype, Device device = {});

// Has the file the metadata that check_golden needs?
bool is_golden(const std::filesystem::path& file);

}  // namespace sg::sgformer
