// The dimensions of a tensor, at most 6, kept inline.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace sg {

class Shape {
 public:
  static constexpr int kMaxDims = 6;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);  // throws on a negative or overflowing size

  int size() const { return size_; }
  int64_t operator[](int i) const { return dims_[i < 0 ? i + size_ : i]; }
  int64_t numel() const;  // 1 for a scalar ()
  void push_back(int64_t dim);
  // The same shape with another last dimension.
  Shape with_last(int64_t dim) const;
  bool operator==(const Shape& o) const;
  std::string str() const;  // "(8, 56, 56, 64)"

 private:
  std::array<int64_t, kMaxDims> dims_{};
  int size_ = 0;
};

}  // namespace sg
