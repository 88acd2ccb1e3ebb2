#include "core/shape.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace sg {

Shape::Shape(std::initializer_list<int64_t> dims) {
  for (int64_t d : dims) push_back(d);
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int i = 0; i < size_; ++i) n *= dims_[i];
  return n;
}

void Shape::push_back(int64_t dim) {
  check(size_ < kMaxDims, "shape: more than {} dimensions", kMaxDims);
  int64_t total = 0;
  check(dim >= 0 && !__builtin_mul_overflow(numel(), dim, &total),
        "shape: dimension {} after {} is negative or too large", dim, str());
  dims_[size_++] = dim;
}

Shape Shape::with_last(int64_t dim) const {
  Shape s = *this;
  s.dims_[s.size_ - 1] = dim;
  return s;
}

bool Shape::operator==(const Shape& o) const {
  return size_ == o.size_ && std::equal(dims_.begin(), dims_.begin() + size_, o.dims_.begin());
}

std::string Shape::str() const {
  return fmt::format("({})", fmt::join(dims_.begin(), dims_.begin() + size_, ", "));
}

}  // namespace sg
