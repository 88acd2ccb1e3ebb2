#include "tools/golden/relative_error.h"

#include <algorithm>
#include <cmath>

namespace sg {

double worst_row_factor(int64_t rows, int64_t length, int products) {
  const double spread = products > 0 ? 3 * (products + 1) : 1;
  return 1 + std::sqrt(spread * 2 * std::log(double(rows)) / double(length));
}

RelativeError relative_error_of(const Tensor& found, const Tensor& expected, double least_scale,
                                int products) {
  if (!(found.shape() == expected.shape())) return {INFINITY, INFINITY};
  const std::vector<double> x = to_vector<double>(found), y = to_vector<double>(expected);
  if (x.empty()) return {};
  const auto length = size_t(expected.shape().size() == 0 ? 1 : expected.dim(-1));
  std::vector<double> differences, norms;  // of rows, squared
  double difference = 0, norm = 0;
  for (size_t row = 0; row < x.size(); row += length) {
    double d = 0, n = 0;
    for (size_t i = row; i < row + length; ++i)
      d += (x[i] - y[i]) * (x[i] - y[i]), n += y[i] * y[i];
    differences.push_back(d), norms.push_back(n);
    difference += d, norm += n;
  }
  if (!std::isfinite(difference)) return {INFINITY, INFINITY};
  const auto ratio = [](double d, double n) { return std::sqrt(n > 0 ? d / n : d); };
  const double mean = norm / double(norms.size());
  RelativeError error{
      .whole = ratio(difference, std::max(norm, least_scale * least_scale)),
      .row_factor = worst_row_factor(int64_t(norms.size()), int64_t(length), products)};
  for (size_t i = 0; i < norms.size(); ++i)
    error.worst_row = std::max(error.worst_row, ratio(differences[i], std::max(norms[i], mean)));
  return error;
}

}  // namespace sg
