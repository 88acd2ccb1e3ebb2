// What checks of golden files share: the file and what it asks for, values by formula, and the
// comparison of what was computed with the file's tensors.
#pragma once
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "nn/parameters.h"
#include "tools/golden/relative_error.h"

namespace sg::golden {

// u[i] of a key, in [-1, 1).
std::vector<float> formula(const std::string& key, int64_t n);
// The value of a parameter under `key`, in official shape, f32.
Tensor formula_parameter(const std::string& key, const std::string& name, const Shape& official);

// What a golden file asks for, and in which dtype and on which device it is computed. A file that
// lacks what is asked of it, or has it in another form, is an error that names it.
struct Case {
  const Safetensors& file;
  Dtype dtype;
  Device device;

  // Metadata: as it is; a list "1,2,3"; one whole number; a real number; a list "0.5,1".
  const std::string& text(const std::string& name) const;
  std::vector<int64_t> numbers(const std::string& name) const;
  int64_t number(const std::string& name) const;
  double real(const std::string& name) const { return std::stod(text(name)); }
  std::vector<double> reals(const std::string& name) const;
  // A list as a shape, which has `dims` dimensions; shapes "1,2;3,4".
  Shape shape(const std::string& name, int dims) const;
  std::vector<Shape> shapes(const std::string& name, int dims) const;

  // u of "<key>/<name>", on the CPU, in the dtype of parameters.
  Tensor uniform(const std::string& name, Shape shape) const;
  // The same for a map of the official shape (B, C, H, W): (B, H, W, C), placed.
  Tensor uniform_map(const std::string& name, const Shape& official) const;
  Tensor place(const Tensor& t) const { return t.to(dtype).to(device); }
  // Fills all parameters and buffers by formula.
  void fill(nn::ParameterStore& store) const;

 private:
  std::vector<std::vector<int64_t>> lists_of_numbers(const std::string& name) const;
};

// f64 (B, C, H, W) to (B, H, W, C), or back; f32 too.
Tensor transpose_map(const Tensor& t, bool to_channels_last);

struct Row {
  std::string tensor;
  RelativeError error;
  double bound = 0;  // 0: equal
  double share_of_bound() const {
    const double worst = std::max(error.whole, error.worst_row / error.row_factor);
    return worst == 0 ? 0 : worst / bound;
  }
  bool passed() const { return error.within(bound); }
};

// The relative error of one result: its rounding, which in f32 is that of a sum of `terms` products
// of either sign. Its partial sums grow like sqrt(k), and each is rounded by 2^-24 at most, 0.4
// times that on average: together 0.3 * 2^-24 * sqrt(terms).
double epsilon(Dtype dtype, int64_t terms);
// The longest sum in a product: over the inputs of a layer.
int64_t longest_product(const nn::ParameterStore& store);

// What tensors of a file may be off.
struct Bounds {
  double outputs, gradients;
};

// Collects rows; a tensor of the file that nobody compared is an error.
class Comparison {
 public:
  Comparison(const Case& c, Bounds bounds) : file_(c.file), bounds_(bounds) {}

  // A tensor of the file that is an input.
  Tensor given(const std::string& name);
  // Does nothing where the file has no such tensor. Names that begin with "grad" are gradients.
  // `products`: see worst_row_factor().
  void add(const std::string& name, const Tensor& found, int products = 0);
  // A map (B, H, W, C); that of the file is (B, C, H, W).
  void add_map(const std::string& name, const Tensor& found);
  // Whole numbers and bytes, which must be equal.
  void add_exact(const std::string& name, const Tensor& found);
  // What was compared already.
  void add_row(Row row) { rows_.push_back(std::move(row)); }
  // Of each parameter what the file has of grad, grad_norm and grad_dot.
  void add_gradients(const nn::ParameterStore& store);
  // As add_gradients, but the gradients of all parameters are one tensor, of which each is a row:
  // what the sums of a small one are made of is as large as elsewhere. A row of one element or a
  // few (of the weights that aggregate) is off by more than all together (worst_row_factor); single
  // modules have tight bounds for those.
  void add_gradients_together(const nn::ParameterStore& store);

  // Those nearest to their bounds first.
  std::vector<Row> finish();

 private:
  void add_probe(const std::string& parameter, const Tensor& gradient);
  Tensor expected_of(const std::string& parameter) const;
  void compare(const std::string& name, const Tensor& found, double bound, int products = 0);

  const Safetensors& file_;
  Bounds bounds_;
  std::set<std::string> given_;
  std::vector<Row> rows_;
};

}  // namespace sg::golden
