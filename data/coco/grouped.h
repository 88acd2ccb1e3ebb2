// Entries of a file in any order, by the image that each belongs to.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sg::data {

template <class T>
class GroupedByImage {
 public:
  GroupedByImage() = default;
  // Entry i is of image[i], below `images`. Those of an image keep their order.
  GroupedByImage(std::vector<T> entries, const std::vector<int64_t>& image, int64_t images)
      : ends_(size_t(images) + 1, 0) {
    for (const int64_t i : image) ++ends_[size_t(i) + 1];
    for (size_t i = 1; i < ends_.size(); ++i) ends_[i] += ends_[i - 1];
    entries_.resize(entries.size());
    for (size_t k = 0; k < entries.size(); ++k)
      entries_[ends_[size_t(image[k])]++] = std::move(entries[k]);
    // Each end was moved on to the next one's.
  }
  std::span<const T> of(int64_t image) const {
    const size_t begin = image ? ends_[size_t(image) - 1] : 0;
    return std::span(entries_).subspan(begin, ends_[size_t(image)] - begin);
  }
  const std::vector<T>& all() const { return entries_; }

 private:
  std::vector<T> entries_;
  std::vector<size_t> ends_;  // of images
};

}  // namespace sg::data
