// Datasets: images with labels, from folders of classes, tar shards (data/dataset_tar.h), lists
// (data/dataset_list.h) or IDX files. Class names are escaped as in core/text.h.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/folder_listing.h"
#include "data/image_set.h"

namespace sg::data {

// Images of one class each.
class Dataset : public ImageSet {
 public:
  virtual int label(int64_t i) const = 0;
  std::string identity(int64_t i) const override;

 protected:
  void remark_empty_classes(const std::string& source, const ClassNames& empty);
};

// A sub-folder per class, with the images in it or deeper. Files with an image's extension, in any
// case, are images; the format is found from the content. Hidden files and those of systems
// (.DS_Store, Thumbs.db, __MACOSX) are skipped; other files are counted in remarks().
// Given `classes`, sub-folders must be among them, and those that lack or are empty are remarked;
// otherwise the sub-folders are the classes, in the order that is asked for, and one without images
// is an error. `cache`: see list_classes_of().
class FolderDataset final : public Dataset {
 public:
  explicit FolderDataset(const std::string& folder, const ClassNames& classes = {},
                         ClassOrder order = ClassOrder::name, const std::string& cache = "");
  // The sub-folders alone.
  static ClassNames list_classes(const std::string& folder, ClassOrder order);
  int64_t size() const override { return class_ends_.empty() ? 0 : class_ends_.back(); }
  int label(int64_t i) const override;
  std::string name(int64_t i) const override;
  std::string key(int64_t i) const override;
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override;

 private:
  // Of each class: its folder, as bytes, with a '/' at the end; images relative to it; and how many
  // there are up to its end.
  std::vector<std::string> folders_;
  std::vector<PathList> images_;
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
  std::string key(int64_t i) const override { return std::to_string(i); }
  std::string file(int64_t) const override { return path_; }
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override;

 private:
  std::string path_;
  int height_ = 0, width_ = 0;
  std::vector<uint8_t> pixels_, labels_;
};

enum class Split { train, val };
// The names that a split's folder may have, that which is asked for first: "train" also finds
// training/, "val" validation/, valid/, eval/, evaluation/ and test/, and each of these but test
// the others.
std::vector<std::string> split_folders(const std::string& name);

struct DatasetRequest {
  ClassNames classes;  // in order of their indices; empty: those of the data
  ClassOrder order = ClassOrder::name;
  // Names of the folders (split_folders), or of shards in DIR, or patterns of shards, or list files
  // in DIR or elsewhere.
  std::string train_split = "train", val_split = "val";
  // Fraction of each class of the training set that is held out as the validation set, chosen by
  // the seed and the names of class and image: an image keeps its side when others come or go, but
  // for about one per class and image that does.
  double val_share = 0;
  uint64_t seed = 42;
  std::string cache;  // folder for listings and indices of shards; "": none
};

// DIR/train and DIR/val with class folders or shards, shards in DIR, list files, or the files of an
// MNIST-like set: train-images-idx3-ubyte[.gz], t10k-... is val. A DIR without DIR/train may be the
// folder of the classes itself, for Split::val or with a share to hold out.
std::unique_ptr<Dataset> open_dataset(const std::string& dir, Split split,
                                      const DatasetRequest& request = {});

// Whether DIR has a training set of its own, and does not hold the classes itself.
bool has_training_set(const std::string& dir, const DatasetRequest& request);
// Whether DIR has a validation set of its own, so that no share can be held out.
bool has_validation_set(const std::string& dir, const DatasetRequest& request);

// The class names of a model whose weights came without names and was trained on DIR: sub-folders
// or list of its training set, or where it has none of its validation set, in that order. Empty for
// IDX files, and for shards without classes.txt.
ClassNames list_classes(const std::string& dir, const DatasetRequest& request);

}  // namespace sg::data
