#include "nn/parameters.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/cpu/parallel.h"
#include "core/rng.h"

namespace sg::nn {
namespace {

constexpr int64_t kAlign = 16;  // elements: parameters start on their own cache line
int64_t aligned(const Shape& shape) { return (shape.numel() + kAlign - 1) / kAlign * kAlign; }

// The index in memory of element i of the official layout.
std::function<int64_t(int64_t)> place_of_official(const NamedSlice& part) {
  const Shape& s = part.official;
  switch (part.layout) {
    case Layout::same:
      return [](int64_t i) { return i; };
    case Layout::conv: {
      const int64_t in = s[1], area = s[2] * s[3];
      return [=](int64_t i) {
        const int64_t k = i % area, c = i / area % in, o = i / area / in;
        return (o * area + k) * in + c;
      };
    }
    case Layout::depthwise: {
      const int64_t c = s[0], area = s[2] * s[3];
      return [=](int64_t i) { return i % area * c + i / area; };
    }
    case Layout::conv_transpose: {
      const int64_t in = s[0], out = s[1], area = s[2] * s[3];
      return [=](int64_t i) {
        const int64_t k = i % area, o = i / area % out, c = i / area / out;
        return (k * out + o) * in + c;
      };
    }
    case Layout::flat_map: {
      const int64_t row = s[1], pixels = part.pixels, c = row / pixels;
      return [=](int64_t i) { return i / row * row + i % pixels * c + i % row / pixels; };
    }
  }
  fail(ExitCode::failure, "parameter {}: unknown layout", part.name);
}

// The 2-D sine-cosine embedding: the first half of the channels encodes the column, the second the
// row; in each half sines come before cosines. So of 64 channels, row 0 and column 1 have sin(1) =
// .8415 at channel 0, cos(1) = .5403 at 16, sin(0) = 0 at 32 and cos(0) = 1 at 48.
void fill_position(double* values, const Shape& shape) {
  const int64_t c = shape[2], quarter = c / 4;
  const int64_t side = int64_t(std::lround(std::sqrt(double(shape[1]))));
  check(side * side == shape[1] && c % 4 == 0,
        "positional embedding {}: expected a square number of rows and channels divisible by 4",
        shape.str());
  for (int64_t n = 0; n < shape[1]; ++n)
    for (int64_t i = 0; i < c; ++i) {
      const double place = double(i < c / 2 ? n % side : n / side);
      const double omega = std::pow(10000.0, -double(i % quarter) / double(quarter));
      values[n * c + i] = i % (c / 2) < quarter ? std::sin(place * omega) : std::cos(place * omega);
    }
}

Tensor initial_value(const NamedSlice& part, uint64_t seed, size_t index) {
  Tensor t = zeros(part.official, Dtype::f64);
  const auto normal = [&](double std) {
    Random random(seed, Purpose::init, index);
    for (double& v : t.span<double>()) v = std * random.normal();
  };
  switch (part.init) {
    case Init::zeros:
      break;
    case Init::ones:
      t.fill_(1);
      break;
    case Init::linear:
      normal(0.02);
      break;
    case Init::conv: {
      const Shape& s = part.official;
      const int64_t groups = part.layout == Layout::depthwise ? s[0] : 1;
      normal(std::sqrt(2.0 / double(s[2] * s[3] * s[0] / groups)));
      break;
    }
    case Init::xavier: {
      const Shape& s = part.official;
      const int64_t area = s.numel() / (s[0] * s[1]);
      const double limit = std::sqrt(6.0 / double((s[0] + s[1]) * area));
      Random random(seed, Purpose::init, index);
      for (double& v : t.span<double>()) v = random.uniform(-limit, limit);
      break;
    }
    case Init::logits:
      normal(0.01);
      break;
    case Init::deltas:
      normal(0.001);
      break;
    case Init::position:
      fill_position(t.data<double>(), part.official);
      break;
  }
  return t;
}

}  // namespace

ParameterGroup published_group(const NamedSlice& part) {
  return {.weight_decay_scale = part.official.size() > 1 ? 1.0 : 0.0};
}

Parameter* ParameterStore::add(std::vector<NamedSlice> parts, Shape shape, DtypeRole role) {
  check(!values_.defined(), "parameters: {} is declared after allocate()", parts.at(0).name);
  const size_t index = parameters_.size();
  int64_t offset = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool fresh = places_.emplace(parts[i].name, Place{index, i, offset}).second;
    check(fresh, "parameters: {} is declared twice", parts[i].name);
    names_.push_back(parts[i].name);
    parts[i].group = published_group(parts[i]);
    offset += parts[i].official.numel();
  }
  check(offset == shape.numel(), "parameters: the parts of {} hold {} elements, {} was declared",
        parts[0].name, offset, shape.str());
  parameters_.push_back({std::move(parts), shape, role, 0, {}});
  return &parameters_.back();
}

Buffer* ParameterStore::add_buffer(const std::string& name, Shape shape, double initial) {
  check(!values_.defined(), "parameters: {} is declared after allocate()", name);
  const bool taken = places_.contains(name) ||
                     std::ranges::find(named_buffers_, name, &Buffer::name) != named_buffers_.end();
  check(!taken, "parameters: {} is declared twice", name);
  named_buffers_.push_back({name, shape, initial, 0, {}});
  return &named_buffers_.back();
}

void ParameterStore::allocate(Dtype dtype, Device device, bool gradients) {
  dtype_ = dtype;
  int64_t state = 0;
  for (Buffer& b : named_buffers_) b.offset = std::exchange(state, state + aligned(b.shape));
  if (state) buffers_ = zeros({state}, acc_dtype(dtype), device);
  for (Buffer& b : named_buffers_)
    b.value = buffers_.slice(b.offset, b.offset + b.shape.numel()).view(b.shape);
  int64_t total = 0;
  for (auto p = parameters_.rbegin(); p != parameters_.rend(); ++p)
    p->offset = std::exchange(total, total + aligned(p->shape));
  if (gradients) grads_ = zeros({total}, acc_dtype(dtype), device);
  // On CPUs rounding costs little beside a matmul of many rows, and the copy would lie in memory
  // all the time. Graphs of a GPU, and a matmul of few rows in inference, are better off with it.
  const bool rounds = gradients && device.type == DeviceType::cpu;
  if (dtype == Dtype::bf16 && !rounds) bf16_values_ = empty({total}, dtype, device);
  use_values(zeros({total}, acc_dtype(dtype), device));
}

void ParameterStore::use_values(Tensor flat) {
  if (values_) {
    check_shape("parameters", "values", flat, values_.shape());
    check_like("parameters", "values", flat, values_);
  }
  values_ = std::move(flat);
  if (bf16_values_) bf16_values_.copy_(values_);
  for (Parameter& p : parameters_) {
    const auto view = [&](Tensor& t) {
      return t.slice(p.offset, p.offset + p.shape.numel()).view(p.shape);
    };
    const bool narrow = bf16_values_ && p.role == DtypeRole::matmul;
    Tensor value = view(narrow ? bf16_values_ : values_);
    p.value = p.frozen() || !grads_ ? value : autograd::leaf(value, view(grads_));
  }
}

void ParameterStore::initialize(uint64_t seed) {
  const int64_t n = int64_t(names_.size());
  // One parameter is one stream of random numbers, so any number of threads gives the same values.
  const bool on_cpu = values_.device().type == DeviceType::cpu;
  Tensor host = on_cpu ? values_ : zeros(values_.shape(), values_.dtype());
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const std::string& name = names_[size_t(i)];
      set(host, name, initial_value(part(name), seed, size_t(i)));
    }
  });
  if (!on_cpu) values_.copy_(host);
  if (bf16_values_) bf16_values_.copy_(values_);
  for (Buffer& b : named_buffers_) b.value.fill_(b.initial);
}

void ParameterStore::clear_grads() {
  for (const Parameter& p : parameters_)
    if (!p.frozen()) autograd::clear_grad(p.value);
}

void ParameterStore::zero_unreached_grads() {
  for (const Parameter& p : parameters_)
    if (!p.frozen() && !autograd::grad_of(p.value).defined()) autograd::zero_grad(p.value);
}

std::vector<const Parameter*> ParameterStore::in_order() const {
  std::vector<const Parameter*> result;
  for (auto p = parameters_.rbegin(); p != parameters_.rend(); ++p)
    if (!p->frozen()) result.push_back(&*p);
  return result;
}

void ParameterStore::set_groups(const GroupRule& rule) {
  for (Parameter& p : parameters_)
    for (NamedSlice& part : p.parts) {
      part.group = rule(part);
      check(part.group.frozen == p.frozen(),
            "parameters: {} and {} are one parameter: freeze both or none", p.parts[0].name,
            part.name);
    }
  if (!values_) return;
  if (grads_) grads_.zero_();  // those of frozen parameters stay so
  use_values(values_);
}

std::vector<GroupSize> ParameterStore::groups() const {
  std::vector<GroupSize> result;
  for (const std::string& name : names_) {
    const NamedSlice& p = part(name);
    auto at = std::ranges::find(result, p.group, &GroupSize::group);
    if (at == result.end()) at = result.insert(at, {p.group});
    ++at->tensors, at->elements += p.official.numel();
  }
  return result;
}

std::vector<AdamWSegment> ParameterStore::segments() const {
  std::vector<AdamWSegment> result;
  for (auto p = parameters_.rbegin(); p != parameters_.rend(); ++p) {
    int64_t begin = p->offset;
    for (const NamedSlice& part : p->parts) {
      const int64_t end = begin + part.official.numel();
      const ParameterGroup& g = part.group;
      if (!g.frozen) result.push_back({begin, end, g.lr_scale, g.weight_decay_scale});
      begin = end;
    }
  }
  return result;
}

const ParameterStore::Place& ParameterStore::place(const std::string& name) const {
  const auto it = places_.find(name);
  check(it != places_.end(), "parameters: the model has no tensor named '{}'", name);
  return it->second;
}

const NamedSlice& ParameterStore::part(const std::string& name) const {
  const Place& p = place(name);
  return parameters_[p.parameter].parts[p.part];
}

int64_t ParameterStore::count() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.shape.numel();
  return n;
}

Tensor ParameterStore::get(const Tensor& flat, const std::string& name) const {
  const Place& at = place(name);
  const NamedSlice& p = part(name);
  Tensor official = empty(p.official, flat.dtype());
  const auto index = place_of_official(p);
  const int64_t offset = parameters_[at.parameter].offset + at.offset;
  const Tensor here = flat.slice(offset, offset + official.numel()).to(Device{});
  dispatch<float, double>(flat.dtype(), "parameters", [&]<class T>() {
    const T* from = here.data<T>();
    for (int64_t i = 0; i < official.numel(); ++i) official.data<T>()[i] = from[index(i)];
  });
  return official;
}

void ParameterStore::set(Tensor& flat, const std::string& name, const Tensor& official) {
  const Place& at = place(name);
  const NamedSlice& p = part(name);
  check_shape(name, "value", official, p.official);
  const Tensor source = official.to(Device{}).to(flat.dtype());
  Tensor here = empty({source.numel()}, flat.dtype());
  const auto index = place_of_official(p);
  dispatch<float, double>(flat.dtype(), "parameters", [&]<class T>() {
    T* to = here.data<T>();
    for (int64_t i = 0; i < source.numel(); ++i) to[index(i)] = source.data<T>()[i];
  });
  const int64_t begin = parameters_[at.parameter].offset + at.offset, end = begin + here.numel();
  flat.slice(begin, end).copy_(here);
  if (bf16_values_ && flat.same_memory(values_))
    bf16_values_.slice(begin, end).copy_(flat.slice(begin, end));
}

Parameter* ParameterScope::add(std::vector<NamedSlice> parts, Shape shape, DtypeRole role) const {
  for (NamedSlice& p : parts) p.name = prefix_ + p.name;
  return store_->add(std::move(parts), shape, role);
}

}  // namespace sg::nn
