// Datasets: images with labels, from folders of classes or IDX files.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/decode.h"

namespace sg::data {

// Immutable after construction; all members may be called from several threads.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual int label(int64_t i) const = 0;
  virtual std::string name(int64_t i) const = 0;  // for messages
  // Sample i; its encoded bytes, if any, are in `buffer`, which must outlive the result.
  virtual std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const = 0;

  const std::vector<std::string>& class_names() const { return class_names_; }
  int num_classes() const { return int(class_names_.size()); }

 protected:
  std::vector<std::string> class_names_;
};

using ClassNames = std::vector<std::string>;

// A sub-folder a class, in the order of their names; images in it or deeper, told by their
// extensions: jpg jpeg jpe png bmp gif ppm pgm, in any case. Names that begin with a dot are left
// out. A class without images is an error. Where `expected` is given (the classes of the
// training set) the sub-folders must be the same.
class FolderDataset final : public Dataset {
 public:
  explicit FolderDataset(const std::string& folder, const ClassNames& expected = {});
  int64_t size() const override { return int64_t(starts_.size()) - 1; }
  int label(int64_t i) const override;
  std::string name(int64_t i) const override;
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override;

 private:
  std::string folder_;
  // Millions of names: one string, and where each begins. Paths are relative to their class.
  std::string paths_;
  std::vector<uint64_t> starts_{0};
  std::vector<int64_t> class_ends_;
};

// Paths of the images in a folder and deeper, sorted; those that FolderDataset takes. Throws
// ExitCode::data where there are none.
std::vector<std::string> images_below(const std::string& folder);

// Images in the IDX format of MNIST: grey, one size, gzipped or not. They are kept in memory.
class IdxDataset final : public Dataset {
 public:
  IdxDataset(const std::string& images, const std::string& labels, const ClassNames& expected = {});
  int64_t size() const override { return int64_t(labels_.size()); }
  int label(int64_t i) const override { return labels_[size_t(i)]; }
  std::string name(int64_t i) const override;
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override;

 private:
  std::string path_;
  int height_ = 0, width_ = 0;
  std::vector<uint8_t> pixels_, labels_;
};

enum class Split { train, val };

// DIR/train and DIR/val (or validation, valid, test) with class folders, or the files of an
// MNIST-like set: train-images-idx3-ubyte[.gz], t10k-... is val. A DIR without DIR/train may be the
// folder of the classes itself, for Split::val only.
std::unique_ptr<Dataset> open_dataset(const std::string& dir, Split split,
                                      const ClassNames& expected = {});

}  // namespace sg::data
