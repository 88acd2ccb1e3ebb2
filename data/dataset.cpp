#include "data/dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "core/text.h"
#include "data/dataset_list.h"
#include "data/dataset_tar.h"

namespace sg::data {
namespace fs = std::filesystem;
namespace {

const std::vector<std::string> kTrainNames{"train", "training"};
const std::vector<std::string> kValNames{"val",  "validation", "valid",
                                         "eval", "evaluation", "test"};

bool is_one_of(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

// Some samples of a dataset.
class Subset final : public Dataset {
 public:
  Subset(std::shared_ptr<const Dataset> all, std::vector<int64_t> indices,
         std::vector<std::string> remarks)
      : all_(std::move(all)), indices_(std::move(indices)) {
    class_names_ = all_->class_names();
    remarks_ = std::move(remarks);
  }
  int64_t size() const override { return int64_t(indices_.size()); }
  int label(int64_t i) const override { return all_->label(indices_[size_t(i)]); }
  std::string name(int64_t i) const override { return all_->name(indices_[size_t(i)]); }
  std::string key(int64_t i) const override { return all_->key(indices_[size_t(i)]); }
  std::string file(int64_t i) const override { return all_->file(indices_[size_t(i)]); }
  std::vector<int64_t> shard_ends() const override {
    std::vector<int64_t> ends = all_->shard_ends();
    for (int64_t& end : ends) end = std::ranges::lower_bound(indices_, end) - indices_.begin();
    return ends;
  }
  void prefetch(int64_t i) const override { all_->prefetch(indices_[size_t(i)]); }
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override {
    return all_->open(indices_[size_t(i)], buffer);
  }

 private:
  std::shared_ptr<const Dataset> all_;
  std::vector<int64_t> indices_;
};

// Where sample i stands among those that may be held out. It does not depend on the others.
uint64_t draw(const Dataset& all, int64_t i, uint64_t seed) {
  std::string name = all.class_names()[size_t(all.label(i))];
  name += '\0', name += all.key(i);
  return XXH3_64bits_withSeed(name.data(), name.size(), seed);
}

// The share of each class that is held out, or the rest; in order of the dataset. A class of two
// images or more has some in both.
std::unique_ptr<Dataset> share_of(std::shared_ptr<const Dataset> all, Split split,
                                  const DatasetRequest& r) {
  std::vector<std::vector<int64_t>> classes(size_t(all->num_classes()));
  for (int64_t i = 0; i < all->size(); ++i) classes[size_t(all->label(i))].push_back(i);
  std::vector<int64_t> indices;
  for (std::vector<int64_t>& images : classes) {
    const auto n = int64_t(images.size());
    const int64_t held =
        n < 2 ? 0 : std::clamp<int64_t>(std::llround(r.val_share * double(n)), 1, n - 1);
    std::vector<std::pair<uint64_t, int64_t>> drawn;
    for (const int64_t i : images) drawn.emplace_back(draw(*all, i, r.seed), i);
    std::ranges::sort(drawn);
    std::ranges::transform(drawn, images.begin(), &std::pair<uint64_t, int64_t>::second);
    const auto cut = images.begin() + held;
    indices.insert(indices.end(), split == Split::val ? images.begin() : cut,
                   split == Split::val ? cut : images.end());
  }
  if (indices.empty())
    fail(ExitCode::data, "--val-share: no class has two images, of which one could be held out");
  std::ranges::sort(indices);
  const auto kept = int64_t(indices.size());
  std::vector<std::string> remarks;
  if (split == Split::val)
    remarks.push_back(fmt::format(
        "{} of the {} training images, {} of each class chosen by the seed {}, are held "
        "out as the validation set",
        kept, all->size(), r.val_share, r.seed));
  else
    remarks = all->remarks();
  return std::make_unique<Subset>(std::move(all), std::move(indices), std::move(remarks));
}

// Paths of the parts of a data set, most of them in its folder; "" for what is not there.
class Layout {
 public:
  Layout(const std::string& dir, const DatasetRequest& r) : root_(dir), request_(r) {
    std::error_code error;
    if (is_shard_pattern(dir)) {  // shards, and those of the validation set where it has a name
      root_ = root_.parent_path(), shards_alone_ = true;
      val = is_shard_pattern(r.val_split) ? (root_ / r.val_split).string() : "";
      train = val.empty() ? "" : dir;
      return;
    }
    if (!fs::is_directory(root_, error))
      fail(ExitCode::data, "{}: no such folder of data; see --data", dir);
    train = place_of(r.train_split, kTrainNames), val = place_of(r.val_split, kValNames);
  }

  struct Idx {
    std::string images, labels;
  };
  // The files of an MNIST-like set.
  Idx idx(Split split) const {
    if (shards_alone_) return {};
    const std::string& name = split == Split::train ? request_.train_split : request_.val_split;
    const std::string start = is_one_of(kTrainNames, name) ? "train"
                              : is_one_of(kValNames, name) ? "t10k"
                                                           : name;
    const Idx found{idx_file(start, "images", "idx3"), idx_file(start, "labels", "idx1")};
    if (found.images.empty() != found.labels.empty())
      fail(ExitCode::data, "{}: found {} but not the {} that belong to it", root_.string(),
           found.images.empty() ? found.labels : found.images,
           found.images.empty() ? "images" : "labels");
    return found;
  }

  std::string train, val;

 private:
  // A folder in the data set's; or under another name than the usual ones a list file, there or
  // where the program was started.
  std::string place_of(const std::string& name, const std::vector<std::string>& same) const {
    std::error_code error;
    const std::vector<std::string> names = split_folders(name);
    for (const std::string& n : names)
      if (fs::is_directory(root_ / n, error)) return (root_ / n).string();
    if (is_shard_pattern(name)) return (root_ / name).string();
    for (const std::string& n : names)
      if (std::string shards = pattern_of_split(root_, n); !shards.empty()) return shards;
    if (!is_one_of(same, name))
      for (const fs::path& list : {root_ / name, fs::path(name)})
        if (fs::is_regular_file(list, error)) return list.string();
    return "";
  }
  // Both spellings are met: train-images-idx3-ubyte and train-images.idx3-ubyte.
  std::string idx_file(const std::string& start, const char* what, const char* kind) const {
    std::error_code error;
    for (const char* dot : {"-", "."})
      for (const char* end : {".gz", ""}) {
        const fs::path path = root_ / fmt::format("{}-{}{}{}-ubyte{}", start, what, dot, kind, end);
        if (fs::is_regular_file(path, error)) return path.string();
      }
    return "";
  }

  fs::path root_;
  const DatasetRequest& request_;
  bool shards_alone_ = false;  // DIR itself stands for shards
};

// Of shards, of a folder of classes, or of a list.
std::unique_ptr<Dataset> open_place(const std::string& dir, const std::string& place,
                                    const DatasetRequest& r) {
  if (const auto shards = find_shards(place); !shards.empty())
    return std::make_unique<TarDataset>(shards, r.classes, r.order, r.cache);
  if (fs::is_directory(place))
    return std::make_unique<FolderDataset>(place, r.classes, r.order, r.cache);
  return std::make_unique<ListDataset>(place, dir, r.classes, r.order);
}

std::unique_ptr<Dataset> open_training(const std::string& dir, const Layout& layout,
                                       const DatasetRequest& r) {
  if (const auto [images, labels] = layout.idx(Split::train); !images.empty())
    return std::make_unique<IdxDataset>(images, labels, r.classes);
  if (layout.train.empty() && r.val_share == 0 && is_shard_pattern(dir))
    fail(ExitCode::data,
         "{}: shards alone; to train on them --val-split 'val-*.tar' names those of the validation "
         "set, or --val-share 0.1 holds out a tenth",
         dir);
  if (layout.train.empty() && (r.val_share == 0 || !layout.val.empty())) {
    refuse_compressed_split(dir, r.train_split);
    fail(ExitCode::data,
         "{}: expected a folder '{}' with a sub-folder per class, shards like '{}-000000.tar', a "
         "file of this name of 'path label' lines, or train-images-idx3-ubyte.gz; of a folder of "
         "the classes themselves --val-share 0.1 holds out a tenth for validation",
         dir, r.train_split, r.train_split);
  }
  return open_place(dir, layout.train.empty() ? dir : layout.train, r);
}

}  // namespace

std::vector<std::string> split_folders(const std::string& name) {
  std::vector<std::string> names{name};
  for (const std::vector<std::string>& same : {kTrainNames, kValNames})
    if (is_one_of(same, name) && name != "test")
      names.insert(names.end(), same.begin(), same.end());
  return names;
}

std::string Dataset::identity(int64_t i) const { return key(i) + '\0' + std::to_string(label(i)); }

void Dataset::remark_empty_classes(const std::string& source, const ClassNames& empty) {
  if (!empty.empty())
    remarks_.push_back(fmt::format("{}: no images of {} of {} classes: {}; goes on without them",
                                   source, empty.size(), class_names_.size(), some_of(empty)));
}

std::unique_ptr<Dataset> open_dataset(const std::string& dir, Split split,
                                      const DatasetRequest& r) {
  const Layout layout(dir, r);
  const Layout::Idx val_idx = layout.idx(Split::val);
  if (r.val_share > 0) {
    const std::string& val = layout.val.empty() ? val_idx.images : layout.val;
    if (!val.empty())
      fail(ExitCode::usage, "--val-share: {} is a validation set already; leave the flag out", val);
    return share_of(open_training(dir, layout, r), split, r);
  }
  if (split == Split::train) return open_training(dir, layout, r);
  if (!val_idx.images.empty())
    return std::make_unique<IdxDataset>(val_idx.images, val_idx.labels, r.classes);
  const bool flat = layout.train.empty() && layout.val.empty() && r.val_split == kValNames[0];
  if (layout.val.empty() && !flat) {
    refuse_compressed_split(dir, r.val_split);
    fail(ExitCode::data,
         "{}: expected a folder {} beside '{}'; --val-split names another or a list, --val-share "
         "0.1 holds out a tenth of the training set",
         dir,
         r.val_split == kValNames[0]
             ? "'val', 'validation', 'valid', 'eval', 'evaluation' or 'test'"
             : "'" + r.val_split + "'",
         r.train_split);
  }
  return open_place(dir, flat ? dir : layout.val, r);
}

bool has_training_set(const std::string& dir, const DatasetRequest& r) {
  const Layout layout(dir, r);
  return !layout.train.empty() || !layout.idx(Split::train).images.empty();
}

bool has_validation_set(const std::string& dir, const DatasetRequest& r) {
  const Layout layout(dir, r);
  return !layout.val.empty() || !layout.idx(Split::val).images.empty();
}

ClassNames list_classes(const std::string& dir, const DatasetRequest& r) {
  const Layout layout(dir, r);
  if (!layout.idx(Split::train).images.empty() || !layout.idx(Split::val).images.empty()) return {};
  const std::string& place = !layout.train.empty() ? layout.train
                             : !layout.val.empty() ? layout.val
                                                   : dir;
  if (const auto shards = find_shards(place); !shards.empty())
    return TarDataset::list_classes(shards);
  if (fs::is_directory(place)) return FolderDataset::list_classes(place, r.order);
  return ListDataset(place, dir, {}, r.order).class_names();
}

}  // namespace sg::data
