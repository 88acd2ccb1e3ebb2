// Data sets of tar shards in WebDataset's form.
#pragma once
#include <filesystem>

#include "data/dataset.h"
#include "data/shard_index.h"

namespace sg::data {

// Whether these words stand for shards: a name that ends in ".tar", with ranges {000..099}, choices
// {a,b} and the wildcards * and ? in it. Throws ExitCode::data where it ends as compressed archives
// do.
bool is_shard_pattern(const std::string& text);

// The shards that a pattern stands for, or those in a folder that holds some and no folders, by
// name; empty where it is neither. Throws ExitCode::data where a shard is not there or
// they are compressed.
std::vector<std::filesystem::path> find_shards(const std::string& place);

// A pattern for the shards of a split that lie in `folder` itself: NAME-*.tar, NAME_*.tar,
// NAME0*.tar, NAME.tar or *-NAME-*.tar; "" where there are none.
std::string pattern_of_split(const std::filesystem::path& folder, const std::string& name);
// Throws ExitCode::data where such shards lie there compressed.
void refuse_compressed_split(const std::filesystem::path& folder, const std::string& name);

// The samples of shards (data/shard_index.h). Labels that are numbers are indices of the names in
// classes.txt, beside the shards or one folder above (as sgpack writes it); without that file of
// `classes`, unless these have numbers for names; or else they are the names too. Given `classes`,
// the names must be among them; otherwise the classes are those of the file, or the names that
// occur in the order asked for.
class TarDataset final : public Dataset {
 public:
  explicit TarDataset(const std::vector<std::filesystem::path>& shards,
                      const ClassNames& classes = {}, ClassOrder order = ClassOrder::name,
                      const std::filesystem::path& cache = {});
  // Of classes.txt; empty where there is none.
  static ClassNames list_classes(const std::vector<std::filesystem::path>& shards);

  int64_t size() const override { return ends_.back(); }
  int label(int64_t i) const override;
  std::string name(int64_t i) const override;
  std::string key(int64_t i) const override;
  std::string file(int64_t i) const override { return place_of(i).shard.path.string(); }
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override;
  std::vector<int64_t> shard_ends() const override { return ends_; }
  void prefetch(int64_t i) const override;

 private:
  struct Place {
    const ShardIndex& shard;
    size_t i;
  };
  Place place_of(int64_t i) const;
  void resolve_labels(const ClassNames& of_file, const ClassNames& classes, ClassOrder order);

  std::vector<ShardIndex> shards_;  // the labels of their samples are classes
  std::vector<int64_t> ends_;
};

}  // namespace sg::data
