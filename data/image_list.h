// Images without labels, by their paths.
#pragma once
#include <string>
#include <vector>

#include "data/dataset.h"

namespace sg::data {

// Labels are -1. A file that is not there is a broken image, like one that cannot be decoded.
class ImageList final : public Dataset {
 public:
  explicit ImageList(std::vector<std::string> paths) : paths_(std::move(paths)) {}
  int64_t size() const override { return int64_t(paths_.size()); }
  int label(int64_t) const override { return -1; }
  std::string name(int64_t i) const override { return paths_[size_t(i)]; }
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override {
    read_bytes(paths_[size_t(i)], buffer);
    return open_image(buffer, paths_[size_t(i)]);
  }

 private:
  std::vector<std::string> paths_;
};

}  // namespace sg::data
