// What every set of images has, whatever an image is labelled with.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/class_names.h"
#include "data/decode.h"

namespace sg::data {

// Immutable after construction; all members may be called from several threads.
class ImageSet {
 public:
  virtual ~ImageSet() = default;
  virtual int64_t size() const = 0;
  virtual std::string name(int64_t i) const = 0;  // for messages
  // Tells sample i from the others of its class, wherever the data set lies.
  virtual std::string key(int64_t i) const { return name(i); }
  // The file that holds sample i.
  virtual std::string file(int64_t i) const { return name(i); }
  // The key of sample i and what it is labelled with, as bytes: the same for all who have the same
  // data.
  virtual std::string identity(int64_t i) const = 0;
  // Image i; its encoded bytes, if any, are in `buffer`, which must outlive the result.
  virtual std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const = 0;

  // Of samples that lie in files of many, each best read from its begin to its end: where those of
  // each file end. Empty: any order of reading is as good.
  virtual std::vector<int64_t> shard_ends() const { return {}; }
  // Tells the system that sample i is read soon.
  virtual void prefetch(int64_t) const {}

  const ClassNames& class_names() const { return class_names_; }
  int num_classes() const { return int(class_names_.size()); }
  // Messages for the user, one per line: files left out, classes without images.
  const std::vector<std::string>& remarks() const { return remarks_; }

 protected:
  ClassNames class_names_;
  std::vector<std::string> remarks_;
};

}  // namespace sg::data
