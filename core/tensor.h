// A tensor: dense, row-major memory of one dtype on one device, shared by reference.
// Maps are channels last, (B, H, W, C), so a map and its tokens (B, N, C) are the same bytes.
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
  std::byte* data() const { return static_cast<std::byte*>(block_.data); }
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

  void* raw() const { return storage_->data() + byte_offset_; }
  template <class T>
  T* data() const {  // throws when T is not the dtype
    if (dtype_ != dtype_of<T>()) [[unlikely]]
      wrong_dtype(dtype_of<T>());
    return reinterpret_cast<T*>(raw());
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), size_t(numel())};
  }
  double item() const;  // the only element, as a number; waits for the device

  // Views and copies are not recorded, so that on the tape they throw: ops/reshape, ops/slice and
  // ops/concat are recorded, and detach() says that no gradient is wanted. Views share the memory.
  Tensor view(Shape shape) const;                  // equal numel
  Tensor slice(int64_t begin, int64_t end) const;  // rows [begin, end) of dimension 0
  Tensor detach() const;  // the same memory without its place on the tape; never throws

  Tensor clone() const;            // a copy
  Tensor to(Dtype dtype) const;    // a converted copy, or itself
  Tensor to(Device device) const;  // a copy there, or itself
  // Changes of the values throw on the tape too: a gradient rule may have saved them. copy_: same
  // shape; converts the dtype, from any device. A copy from memory of a device to the host is
  // done on return; one to the device, or on it, is in order of the device's stream.
  void copy_(const Tensor& source) const;
  void fill_(double value) const;
  void zero_() const;

  // True when nothing else refers to the memory.
  bool unshared() const { return storage_.use_count() == 1; }
  bool same_memory(const Tensor& o) const;

  // Autograd's handle; null for a tensor that is not on the tape.
  const std::shared_ptr<autograd::AutogradMeta>& meta() const { return meta_; }
  void set_meta(std::shared_ptr<autograd::AutogradMeta> meta) { meta_ = std::move(meta); }

 private:
  void check_off_tape(const char* method) const;
  [[noreturn]] void wrong_dtype(Dtype asked) const;

  std::shared_ptr<Storage> storage_;
  size_t byte_offset_ = 0;
  Shape shape_;
  Dtype dtype_ = Dtype::f32;
  std::shared_ptr<autograd::AutogradMeta> meta_;
};

// Arguments of kernels.
using In = const Tensor&;
using Out = const Tensor&;

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
