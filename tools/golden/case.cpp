#include "tools/golden/case.h"

#include <charconv>
#include <cmath>

namespace sg::golden {
namespace {

// On the CPU, in f64.
Tensor fetch(const Tensor& t) { return t.detach().to(Device{}).to(Dtype::f64); }

double norm(const Tensor& t) {
  double sum = 0;
  for (const double v : to_vector<double>(t)) sum += v * v;
  return std::sqrt(sum);
}

}  // namespace

std::vector<float> formula(const std::string& key, int64_t n) {
  uint64_t h = 0xcbf29ce484222325;
  for (const char ch : key) h = (h ^ uint8_t(ch)) * 0x100000001b3;
  std::vector<float> u(static_cast<size_t>(n));
  for (size_t i = 0; i < u.size(); ++i) {
    uint64_t z = h + (i + 1) * 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z ^= z >> 31;
    u[i] = float(z >> 40) / 0x1p23f - 1;
  }
  return u;
}

Tensor formula_parameter(const std::string& key, const std::string& name, const Shape& official) {
  std::vector<float> u = formula(key + "/" + name, official.numel());
  const bool vector = official.size() == 1;
  const double fan_in = double(official.numel()) / double(official[0]);
  const bool variance = name.ends_with("running_var");
  const float factor = name.ends_with("pos_embed") || variance ? 0.5f
                       : vector ? (name.ends_with("weight") ? 0.2f : 0.1f)
                                : float(std::sqrt(3.0 / fan_in));
  const float shift = (vector && name.ends_with("weight")) || variance ? 1.0f : 0.0f;
  for (float& v : u) v = shift + v * factor;
  return from_vector(u, official);
}

const std::string& Case::text(const std::string& name) const {
  const auto it = file.metadata().find(name);
  check(it != file.metadata().end(), "{}: metadata '{}' is missing", file.path().string(), name);
  return it->second;
}

std::vector<int64_t> Case::numbers(const std::string& name) const {
  const auto lists = lists_of_numbers(name);
  check(lists.size() == 1, "{}: metadata '{}': expected one list", file.path().string(), name);
  return lists[0];
}

std::vector<std::vector<int64_t>> Case::lists_of_numbers(const std::string& name) const {
  std::vector<std::vector<int64_t>> lists(1);
  const std::string& s = text(name);
  for (const char* p = s.data(); p < s.data() + s.size();) {
    int64_t v = 0;
    const auto [end, ec] = std::from_chars(p, s.data() + s.size(), v);
    const bool last = end == s.data() + s.size();
    check(ec == std::errc() && (last || *end == ',' || *end == ';'),
          "{}: metadata '{}': '{}' is not a list of whole numbers", file.path().string(), name, s);
    lists.back().push_back(v);
    if (!last && *end == ';') lists.emplace_back();
    p = end + 1;
  }
  return lists;
}

int64_t Case::number(const std::string& name) const {
  const auto values = numbers(name);
  check(values.size() == 1, "{}: metadata '{}': expected one number", file.path().string(), name);
  return values[0];
}

std::vector<double> Case::reals(const std::string& name) const {
  std::vector<double> values;
  const std::string& s = text(name);
  for (const char* p = s.data(); p <= s.data() + s.size();) {
    double v = 0;
    const auto [end, ec] = std::from_chars(p, s.data() + s.size(), v);
    check(ec == std::errc() && (end == s.data() + s.size() || *end == ','),
          "{}: metadata '{}': '{}' is not a list of numbers", file.path().string(), name, s);
    values.push_back(v);
    p = end + 1;
  }
  return values;
}

Shape Case::shape(const std::string& name, int dims) const {
  const std::vector<Shape> all = shapes(name, dims);
  check(all.size() == 1, "{}: metadata '{}': expected one shape", file.path().string(), name);
  return all[0];
}

std::vector<Shape> Case::shapes(const std::string& name, int dims) const {
  std::vector<Shape> result;
  for (const std::vector<int64_t>& list : lists_of_numbers(name)) {
    Shape shape;
    for (const int64_t d : list) shape.push_back(d);
    check(shape.size() == dims, "{}: metadata '{}': expected {} dimensions, found {}",
          file.path().string(), name, dims, shape.str());
    result.push_back(shape);
  }
  return result;
}

Tensor Case::uniform(const std::string& name, Shape shape) const {
  return from_vector(formula(text("key") + "/" + name, shape.numel()), shape).to(acc_dtype(dtype));
}

Tensor Case::uniform_map(const std::string& name, const Shape& official) const {
  return place(transpose_map(uniform(name, official), true));
}

void Case::fill(nn::ParameterStore& store) const {
  store.allocate(dtype, device);
  for (const std::string& name : store.names())
    store.set(store.values(), name,
              formula_parameter(text("key"), name, store.part(name).official));
  for (const nn::Buffer& b : store.named_buffers())
    Tensor(b.value).copy_(formula_parameter(text("key"), b.name, b.shape).to(b.value.dtype()));
}

Tensor transpose_map(const Tensor& t, bool to_channels_last) {
  const int64_t b = t.dim(0), rows = to_channels_last ? t.dim(1) : t.dim(1) * t.dim(2);
  const int64_t columns = to_channels_last ? t.dim(2) * t.dim(3) : t.dim(3);
  Tensor y = to_channels_last ? empty({b, t.dim(2), t.dim(3), t.dim(1)}, t.dtype())
                              : empty({b, t.dim(3), t.dim(1), t.dim(2)}, t.dtype());
  dispatch<float, double>(t.dtype(), "golden", [&]<class T>() {
    for (int64_t n = 0; n < b; ++n)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
          y.data<T>()[(n * columns + j) * rows + i] = t.data<T>()[(n * rows + i) * columns + j];
  });
  return y;
}

double epsilon(Dtype dtype, int64_t terms) {
  return dtype == Dtype::bf16 ? 0x1p-9 : 0x1p-24 * std::sqrt(double(terms)) / 3;
}

int64_t longest_product(const nn::ParameterStore& store) {
  int64_t terms = 1;
  for (const std::string& name : store.names()) {
    const Shape& s = store.part(name).official;
    if (s.size() > 1) terms = std::max(terms, s.numel() / s[0]);
  }
  return terms;
}

Tensor Comparison::given(const std::string& name) {
  given_.insert(name);
  return file_.tensor(name);
}

void Comparison::compare(const std::string& name, const Tensor& found, double bound, int products) {
  if (!file_.contains(name)) return;
  const Tensor expected = file_.tensor(name);
  check(expected.numel() == found.numel(), "{}: {}: expected {}, computed {}",
        file_.path().string(), name, expected.shape().str(), found.shape().str());
  rows_.push_back({name,
                   relative_error_of(found.detach().view(expected.shape()), expected, 0, products),
                   bound});
}

void Comparison::add(const std::string& name, const Tensor& found, int products) {
  compare(name, found, name.starts_with("grad") ? bounds_.gradients : bounds_.outputs, products);
}

void Comparison::add_map(const std::string& name, const Tensor& found) {
  add(name, transpose_map(fetch(found), false));
}

void Comparison::add_exact(const std::string& name, const Tensor& found) {
  compare(name, found, 0);
}

void Comparison::add_gradients(const nn::ParameterStore& store) {
  for (const std::string& name : store.names()) {
    const Tensor g = store.get(store.grads(), name);
    add("grad." + name, g);
    add("grad_norm." + name, full({1}, norm(g), Dtype::f64));
    add_probe(name, g);
  }
}

// The terms of <gradient, probe> have either sign: its error is against what it would be if they
// had the sizes of these and any signs, the norm of the gradient times sqrt(1 / 3), the root mean
// square of the probe.
void Comparison::add_probe(const std::string& parameter, const Tensor& gradient) {
  const std::string name = "grad_dot." + parameter;
  if (!file_.contains(name)) return;
  const auto probe = formula(file_.metadata().at("key") + "/probe/" + parameter, gradient.numel());
  const auto values = to_vector<double>(fetch(gradient));
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) sum += values[i] * double(probe[i]);
  const RelativeError error = relative_error_of(full({1}, sum, Dtype::f64), file_.tensor(name),
                                                norm(gradient) / std::sqrt(3.0));
  rows_.push_back({name, {.whole = error.whole}, bounds_.gradients});
}

void Comparison::add_gradients_together(const nn::ParameterStore& store) {
  double square = 0;
  int64_t elements = 0;
  for (const std::string& name : store.names()) {
    square += std::pow(norm(expected_of(name)), 2);
    elements += store.part(name).official.numel();
  }
  for (const std::string& name : store.names()) {
    const Tensor g = store.get(store.grads(), name);
    const bool stored = file_.contains("grad." + name);
    const double scale = std::sqrt(square * double(g.numel()) / double(elements));
    const Tensor expected = expected_of(name);
    const RelativeError error = relative_error_of(
        stored ? g.view(expected.shape()) : full({1}, norm(g), Dtype::f64), expected, scale);
    rows_.push_back(
        {(stored ? "grad." : "grad_norm.") + name,
         {.whole = error.whole},
         bounds_.gradients * worst_row_factor(int64_t(store.names().size()), g.numel())});
  }
}

std::vector<Row> Comparison::finish() {
  for (const std::string& name : file_.names())
    check(given_.contains(name) ||
              std::any_of(rows_.begin(), rows_.end(), [&](auto& r) { return r.tensor == name; }),
          "{}: tensor '{}' was not computed; is it part of the golden form?", file_.path().string(),
          name);
  std::stable_sort(rows_.begin(), rows_.end(), [](const Row& a, const Row& b) {
    return a.share_of_bound() > b.share_of_bound();
  });
  return std::move(rows_);
}

Tensor Comparison::expected_of(const std::string& parameter) const {
  const std::string gradient = "grad." + parameter;
  return file_.tensor(file_.contains(gradient) ? gradient : "grad_norm." + parameter);
}

}  // namespace sg::golden
