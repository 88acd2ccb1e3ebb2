// What lies where in tar shards of WebDataset's form, read once and kept in a file.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/folder_listing.h"
#include "io/tar.h"

namespace sg::data {

// A sample is the files of one name up to its first dot that follow each other in a shard: an image
// and its label. The label is a whole number or the name of a class: the text of .cls, or "label",
// "cls" or "class_name" in .json, of which .cls comes first.
struct ShardSample {   // small, as there are millions
  uint32_t block = 0;  // in which the image's bytes begin; its tar header is the block before
  uint32_t bytes = 0;
  uint32_t label = 0;     // an index of ShardIndex::labels
  uint32_t name_end = 0;  // in ShardIndex::names
  uint32_t header = 0;    // tar_header_hash() of its header, which tells whether it is still there

  uint64_t offset() const { return uint64_t{block} * kTarBlock; }
};

struct ShardIndex {
  std::filesystem::path path;
  uint64_t size = 0;     // of the file
  int64_t modified = 0;  // ns since 1970
  std::vector<ShardSample> samples;
  std::string names;                // of the images in the shard, one after the other
  std::vector<std::string> labels;  // that occur, escaped as in core/text.h
  int64_t unlabelled = 0;           // images without a label, which are no samples
  LeftOut left_out;

  std::string_view name(size_t i) const {
    const uint64_t begin = i ? samples[i - 1].name_end : 0;
    return std::string_view(names).substr(begin, samples[i].name_end - begin);
  }
};

// Reads a shard. Throws ExitCode::data naming it and the byte or file, where it is damaged, cut off
// or holds what is no sample of this form.
ShardIndex index_shard(const std::filesystem::path& path);

// The indices of shards, in their order, from the files kShardIndexFile beside them or in `cache`.
// Shards that these do not know, or whose size or time has changed since, are read, by several
// threads, with a line now and then of how far it is; then the file is written: beside the shards,
// or where that cannot be, into `cache` ("": nowhere). A file that is damaged or of another
// version counts as none.
constexpr const char* kShardIndexFile = "shards.sgindex";
std::vector<ShardIndex> index_shards(const std::vector<std::filesystem::path>& shards,
                                     const std::filesystem::path& cache);

}  // namespace sg::data
