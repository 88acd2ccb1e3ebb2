#include "core/tensor.h"

#include <utility>

#include "core/backend.h"
#include "core/tensor_kernels.h"

namespace sg {

Storage::Storage(size_t bytes, Device device, Allocator& allocator)
    : allocator_(allocator), block_(allocator.allocate(bytes)), device_(device) {}
Storage::~Storage() { allocator_.release(block_); }

Tensor::Tensor(std::shared_ptr<Storage> storage, size_t byte_offset, Shape shape, Dtype dtype)
    : storage_(std::move(storage)), byte_offset_(byte_offset), shape_(shape), dtype_(dtype) {}

void Tensor::wrong_dtype(Dtype asked) const {
  fail(ExitCode::failure, "tensor {}: asked for {} data, it holds {}", shape_.str(), name_of(asked),
       name_of(dtype_));
}

void Tensor::check_off_tape(const char* method) const {
  check(!meta_,
        "{}: the tensor {} is on the tape, and its gradient would be lost; use an op that records "
        "(reshape, slice, concat), or detach() where no gradient is wanted",
        method, shape_.str());
}

double Tensor::item() const {
  check(numel() == 1, "item: expected one element, found shape {}", shape_.str());
  return to_vector<double>(*this)[0];
}

const Tensor Tensor::view(Shape shape) const {
  check_off_tape("view");
  check(shape.numel() == numel(), "view: {} has {} elements, {} has {}", shape_.str(), numel(),
        shape.str(), shape.numel());
  return Tensor(storage_, byte_offset_, shape, dtype_);
}

const Tensor Tensor::slice(int64_t begin, int64_t end) const {
  check_off_tape("slice");
  check(dims() >= 1 && 0 <= begin && begin <= end && end <= dim(0),
        "slice: rows [{}, {}) of {} do not exist", begin, end, shape_.str());
  Shape s{end - begin};
  for (int i = 1; i < dims(); ++i) s.push_back(dim(i));
  const size_t row_bytes = dim(0) ? bytes() / size_t(dim(0)) : 0;
  return Tensor(storage_, byte_offset_ + size_t(begin) * row_bytes, s, dtype_);
}

const Tensor Tensor::detach() const { return Tensor(storage_, byte_offset_, shape_, dtype_); }

Tensor Tensor::view(Shape shape) { return std::as_const(*this).view(shape); }
Tensor Tensor::slice(int64_t begin, int64_t end) { return std::as_const(*this).slice(begin, end); }
Tensor Tensor::detach() { return std::as_const(*this).detach(); }

Tensor Tensor::clone() const {
  check_off_tape("clone");
  Tensor t = empty_like(*this);
  t.copy_(*this);
  return t;
}

Tensor Tensor::to(Dtype dtype) const {
  check_off_tape("to");
  if (dtype == dtype_) return *this;
  Tensor t = empty(shape_, dtype, device());
  t.copy_(*this);
  return t;
}

bool Tensor::same_memory(const Tensor& o) const {
  return storage_ == o.storage_ && byte_offset_ == o.byte_offset_ && bytes() == o.bytes();
}

Tensor Tensor::to(Device device) const {
  check_off_tape("to");
  if (device == this->device()) return *this;
  Tensor t = empty(shape_, dtype_, device);
  t.copy_(*this);
  return t;
}

void Tensor::copy_(const Tensor& source) {
  check_off_tape("copy_");
  source.check_off_tape("copy_");
  check(source.shape() == shape_, "copy: source {} does not fit {}", source.shape().str(),
        shape_.str());
  if (numel() == 0) return;
  if (device() == source.device()) {
    if (dtype_ == source.dtype())
      backend(device().type).copy(stream(), raw(), source.raw(), bytes());
    else
      kernels::convert(stream(), source, *this);
    return;
  }
  const bool to_host = device().type == DeviceType::cpu;
  check(to_host || source.device().type == DeviceType::cpu,
        "copy: from {} to {} goes through the CPU; copy there first", str(source.device()),
        str(device()));
  if (dtype_ != source.dtype()) return copy_(source.to(dtype_));
  // The device's own stream and backend, whichever side it is on.
  const Device other = to_host ? source.device() : device();
  Stream& queue = current_stream(other);
  backend(other.type).copy(queue, raw(), source.raw(), bytes());
  if (to_host) backend(other.type).synchronize(queue);
}

void Tensor::fill_(double value) {
  check_off_tape("fill_");
  if (numel() > 0) kernels::fill(stream(), value, *this);
}

void Tensor::zero_() {
  check_off_tape("zero_");
  backend(device().type).zero(stream(), raw(), bytes());
}

Tensor empty(Shape shape, Dtype dtype, Device device) {
  const size_t bytes = size_t(shape.numel()) * size_of(dtype);
  return Tensor(std::make_shared<Storage>(bytes, device, Allocator::of(device)), 0, shape, dtype);
}

Tensor empty_pinned(Shape shape, Dtype dtype, Device device) {
  const size_t bytes = size_t(shape.numel()) * size_of(dtype);
  return Tensor(std::make_shared<Storage>(bytes, Device{}, Allocator::pinned(device)), 0, shape,
                dtype);
}

Tensor zeros(Shape shape, Dtype dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.zero_();
  return t;
}

Tensor full(Shape shape, double value, Dtype dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.fill_(value);
  return t;
}

Tensor empty_like(const Tensor& t) { return empty(t.shape(), t.dtype(), t.device()); }

template <class T>
Tensor from_vector(const std::vector<T>& values, Shape shape) {
  check(int64_t(values.size()) == shape.numel(), "from_vector: {} values do not fill {}",
        values.size(), shape.str());
  Tensor t = empty(shape, dtype_of<T>());
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}
template Tensor from_vector(const std::vector<float>&, Shape);
template Tensor from_vector(const std::vector<double>&, Shape);
template Tensor from_vector(const std::vector<int32_t>&, Shape);
template Tensor from_vector(const std::vector<uint8_t>&, Shape);

template <class T>
std::vector<T> to_vector(const Tensor& t) {
  const Tensor c = t.detach().to(Device{}).to(dtype_of<T>());
  return {c.data<T>(), c.data<T>() + c.numel()};
}
template std::vector<float> to_vector(const Tensor&);
template std::vector<double> to_vector(const Tensor&);
template std::vector<int32_t> to_vector(const Tensor&);
template std::vector<uint8_t> to_vector(const Tensor&);

void check_shape(std::string_view op, std::string_view arg, const Tensor& t,
                 const Shape& expected) {
  check(t.defined(), "{}: {}: missing", op, arg);
  check(t.shape() == expected, "{}: {}: expected shape {}, found {}", op, arg, expected.str(),
        t.shape().str());
}

void check_dims(std::string_view op, std::string_view arg, const Tensor& t, int expected) {
  check(t.defined(), "{}: {}: missing", op, arg);
  check(t.dims() == expected, "{}: {}: expected {} dimensions, found {}", op, arg, expected,
        t.shape().str());
}

void check_like(std::string_view op, std::string_view arg, const Tensor& t, const Tensor& other) {
  check(t.defined(), "{}: {}: missing", op, arg);
  check(t.dtype() == other.dtype() && t.device() == other.device(),
        "{}: {}: expected {} on {}, found {} on {}", op, arg, name_of(other.dtype()),
        str(other.device()), name_of(t.dtype()), str(t.device()));
}

void check_acc_dtype(std::string_view op, std::string_view arg, const Tensor& t,
                     const Tensor& other) {
  check(t.defined(), "{}: {}: missing", op, arg);
  check(t.dtype() == acc_dtype(other.dtype()) && t.device() == other.device(),
        "{}: {}: expected {} on {}, found {} on {}", op, arg, name_of(acc_dtype(other.dtype())),
        str(other.device()), name_of(t.dtype()), str(t.device()));
}

}  // namespace sg
