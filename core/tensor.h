// A tensor: dense, row-major memory of one dtype on one device, shared by reference.
// Maps are channels last, (B, H, W, C), so a map and its tokens (B, N, C) are the same bytes.
// A const Tensor and its views do not change the values. A copy of it shares the memory, and can.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "core/allocator.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace sg {

namespace autograd {
struct AutogradMeta;  // what the tape knows of a tensor (autograd/tape.h)
}

class Storage {
 public:
  Storage(size_t bytes, Device device, Allocator& allocator);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  std::byte* data() { return static_cast<std::byte*>(block_.data); }
  Device device() const { return device_; }

 private:
  Allocator& allocator_;
  Allocator::Block block_;
  Device device_;
};

class Tensor {
 public:
  Tensor() = default;  // undefined: "no such tensor" (an absent bias, an unwanted gradient)
  Tensor(std::shared_ptr<Storage> storage, size_t byte_offset, Shape shape, Dtype dtype);

  bool defined() const { return storage_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const { return shape_; }
  int dims() const { return shape_.size(); }
  int64_t dim(int i) const { return shape_[i]; }  // negative counts from the end
  int64_t numel() const { return shape_.numel(); }
  size_t bytes() const { return size_t(numel()) * size_of(dtype_); }
  Dtype dtype() const { return dtype_; }
  Device device() const { return storage_->device(); }
  Stream& stream() const { return current_stream(device()); }

  void* raw() { return storage_->data() + byte_offset_; }
  const void* raw() const { return storage_->data() + byte_offset_; }
  template <class T>
  T* data() {  // throws when T is not the dtype
    check_dtype(dtype_of<T>());
    return static_cast<T*>(raw());
  }
  template <class T>
  const T* data() const {
    check_dtype(dtype_of<T>());
    return static_cast<const T*>(raw());
  }
  template <class T>
  std::span<T> span() {
    return {data<T>(), size_t(numel())};
  }
  template <class T>
  std::span<const T> span() const {
    return {data<T>(), size_t(numel())};
  }
  double item() const;  // the only element, as a number; waits for the device

  // Views and copies are not recorded, so that on the tape they throw: ops/reshape, ops/slice and
  // ops/concat are recorded, and detach() says that no gradient is wanted. Views share the memory.
  Tensor view(Shape shape);                  // equal numel
  Tensor slice(int64_t begin, int64_t end);  // rows [begin, end) of dimension 0
  Tensor detach();  // the same memory without its place on the tape; never throws
  const Tensor view(Shape shape) const;
  const Tensor slice(int64_t begin, int64_t end) const;
  const Tensor detach() const;

  Tensor clone() const;            // a copy
  Tensor to(Dtype dtype) const;    // a converted copy, or itself
  Tensor to(Device device) const;  // a copy there, or itself
  // Changes of the values throw on the tape too: a gradient rule may have saved them. copy_: same
  // shape; converts the dtype, from any device. A copy from memory of a device to the host is
  // done on return; one to the device, or on it, is in order of the device's stream.
  void copy_(const Tensor& source);
  void fill_(double value);
  void zero_();

  // True when nothing else refers to the memory.
  bool unshared() const { return storage_.use_count() == 1; }
  bool same_memory(const Tensor& o) const;

  // Autograd's handle; null for a tensor that is not on the tape.
  const std::shared_ptr<autograd::AutogradMeta>& meta() const { return meta_; }
  void set_meta(std::shared_ptr<autograd::AutogradMeta> meta) { meta_ = std::move(meta); }

 private:
  void check_off_tape(const char* method) const;
  void check_dtype(Dtype asked) const {
    if (dtype_ != asked) [[unlikely]]
      wrong_dtype(asked);
  }
  [[noreturn]] void wrong_dtype(Dtype asked) const;

  std::shared_ptr<Storage> storage_;
  size_t byte_offset_ = 0;
  Shape shape_;
  Dtype dtype_ = Dtype::f32;
  std::shared_ptr<autograd::AutogradMeta> meta_;
};

// Arguments of kernels. An Out refers to a tensor that the kernel writes; it is undefined ({})
// where the caller does not want that output. The tensor must outlive it.
using In = const Tensor&;

class Out {
 public:
  Out() = default;
  Out(Tensor& tensor) : tensor_(&tensor) {}
  operator const Tensor&() const { return *tensor_; }

  bool defined() const { return tensor_->defined(); }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const { return tensor_->shape(); }
  int64_t dim(int i) const { return tensor_->dim(i); }
  int64_t numel() const { return tensor_->numel(); }
  size_t bytes() const { return tensor_->bytes(); }
  Dtype dtype() const { return tensor_->dtype(); }
  Device device() const { return tensor_->device(); }
  Stream& stream() const { return tensor_->stream(); }

  void* raw() const { return tensor_->raw(); }
  template <class T>
  T* data() const {
    return tensor_->data<T>();
  }
  void copy_(const Tensor& source) const { tensor_->copy_(source); }
  void zero_() const { tensor_->zero_(); }

 private:
  static inline Tensor undefined_;
  Tensor* tensor_ = &undefined_;
};

Tensor empty(Shape shape, Dtype dtype = Dtype::f32, Device device = {});
Tensor zeros(Shape shape, Dtype dtype = Dtype::f32, Device device = {});
Tensor full(Shape shape, double value, Dtype dtype = Dtype::f32, Device device = {});
Tensor empty_like(const Tensor& t);
// On the CPU, in memory that `device` copies from and to without a detour.
Tensor empty_pinned(Shape shape, Dtype dtype, Device device);
template <class T>
Tensor from_vector(const std::vector<T>& values, Shape shape);  // on the CPU
template <class T>
std::vector<T> to_vector(const Tensor& t);  // converts the dtype; of tensors on the tape too

// Argument checks; the message reads "layer_norm: w: expected shape (64), found (32)".
void check_shape(std::string_view op, std::string_view arg, const Tensor& t, const Shape& expected);
void check_dims(std::string_view op, std::string_view arg, const Tensor& t, int expected);
void check_like(std::string_view op, std::string_view arg, const Tensor& t, const Tensor& other);
// The same device, and the dtype acc_dtype(other.dtype()).
void check_acc_dtype(std::string_view op, std::string_view arg, const Tensor& t,
                     const Tensor& other);

}  // namespace sg
