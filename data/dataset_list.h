// A data set that is a list of images and their labels, as timm and Caffe write them.
#pragma once
#include "data/dataset.h"

namespace sg::data {

// A line is a path and a label, with spaces or tabs between them: the label is what follows the
// last tab, or where there is none the last space. Nothing is quoted, so paths may have spaces.
// Lines of white space, and those that begin with '#', are passed over.
//
// A label is the name of a class or, unless the classes have numbers for names, its index. Without
// `classes`, whole numbers are indices: all of 0 to n - 1 must occur, and are the names too; other
// labels are the names of the classes, in the order that is asked for.
class ListDataset final : public Dataset {
 public:
  // `root`: the folder that paths are relative to. Throws ExitCode::data naming the line.
  ListDataset(const std::string& list, const std::string& root, const ClassNames& classes = {},
              ClassOrder order = ClassOrder::name);
  int64_t size() const override { return int64_t(paths_.size()); }
  int label(int64_t i) const override { return labels_[size_t(i)]; }
  std::string name(int64_t i) const override;
  std::string key(int64_t i) const override { return std::string(paths_[size_t(i)]); }
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override;

 private:
  std::string root_;
  PathList paths_;
  std::vector<int> labels_;
};

}  // namespace sg::data
