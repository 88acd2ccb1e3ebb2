// Images with label images, from folders: DIR/images/train/a.jpg beside
// DIR/annotations/train/a.png, as ADEChallengeData2016 has them.
#pragma once
#include <array>

#include "data/dataset.h"
#include "data/label_image.h"

namespace sg::data {

constexpr uint8_t kIgnoredLabel = 255;  // of pixels without a class
constexpr int kMaxSegmentationClasses = 255;

struct SegmentationRequest {
  std::string train_split = "train", val_split = "val";  // folders; others: split_folders()
  // A file of class names; "": classes.txt, objectInfo150.csv or objectInfo150.txt in DIR.
  std::string class_map;
  // The value of pixels in the files that have no class, besides what reduce_zero_label leaves out.
  int ignore_index = 255;
  // In the files 0 is no class, and k is class k - 1.
  bool reduce_zero_label = false;
};

// A colour a class: those that are given, of further classes those of class_palette().
std::vector<Rgb> complete_palette(std::vector<Rgb> given, int64_t classes);

// Names may occur twice, colours too.
struct SegmentationClasses {
  ClassNames names;
  std::vector<Rgb> palette;  // a colour a class
};
// The classes in the order of their indices. A line of the file is "number<tab>name", where the
// number is that in the label images, or a name; behind it may stand a colour, "128 64 128" or
// "#804080", of every class or of none; further columns are passed over. Without colours they are
// those of class_palette(). Of ADE20K's objectInfo150 the number is the first and the name the last
// field; JSON as of read_class_map().
// Throws ExitCode::data naming file and line.
SegmentationClasses read_segmentation_classes(const std::string& path, bool reduce_zero_label);

// Images in any folder below the split's, sorted by name. The label of an image has its path below
// annotations/, but for the extension; of several, the first that is a PNG by name.
class SegmentationDataset final : public ImageSet {
 public:
  // Throws ExitCode::data naming what is missing.
  SegmentationDataset(const std::string& dir, Split split, const SegmentationRequest& request);
  int64_t size() const override { return int64_t(images_.size()); }
  std::string name(int64_t i) const override {
    return image_folder_ + std::string(images_[size_t(i)]);
  }
  std::string key(int64_t i) const override { return std::string(images_[size_t(i)]); }
  std::string identity(int64_t i) const override;
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override;

  const std::vector<Rgb>& palette() const { return palette_; }  // a colour a class

  // The file of a label, which may be missing.
  std::string label_file(int64_t i) const { return label_folder_ + label_path(i); }
  // The label of an image of this size: classes 0 to K - 1, or kIgnoredLabel. Throws
  // ExitCode::data where it is missing, of another size or damaged, and UnusableData naming place
  // and flags where a value is no class.
  void read_label(int64_t i, ImageSize image, std::vector<uint8_t>& buffer, LabelImage& out) const;

  // How many pixels of at most `files` labels, spread over the set, have each value, as lines for
  // the user; with warnings where that looks like masks of 0 and 255, or like classes that begin
  // elsewhere. Files that cannot be read are passed over.
  std::string label_histogram(int64_t files = 64) const;

 private:
  static constexpr int64_t kMissing = -1;
  std::string label_path(int64_t i) const;
  [[noreturn]] void refuse_label(int64_t i, const LabelImage& label) const;
  std::string valid_values() const;

  std::string image_folder_, label_folder_;  // with a '/' at the end
  PathList images_, labels_;
  std::vector<int64_t> label_of_;  // index in labels_; kMissing
  SegmentationRequest request_;
  std::vector<Rgb> palette_;
  std::array<uint8_t, 256> class_of_{};  // of a value in a file
  std::array<bool, 256> is_valid_{};
};

}  // namespace sg::data
