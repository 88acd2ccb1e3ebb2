// Listings of class folders, kept from one run to the next: a data set of a million images is
// listed by asking a thousand folders whether they have changed.
#pragma once
#include <string>
#include <vector>

#include "data/folder_listing.h"

namespace sg::data {

// $XDG_CACHE_HOME/sgformer, or ~/.cache/sgformer; "" where neither variable is set.
std::string listing_cache_folder();

struct ClassListings {
  std::vector<FolderListing> listings;  // in the order of the classes
  std::string remark;                   // why the cache could not be written; else ""
};

// The listings of sub-folders `classes` of `folder`, by several threads. Those that a file in
// `cache` knows are taken from it where no folder in them has changed; those that are listed anew
// are written to it where the data set has at least `least` images. A file that is damaged, of
// another user or of another version is not read. Without `cache`, and on file systems without
// times of their own (FUSE), all are listed anew. Throws ExitCode::data where a folder cannot be
// listed.
ClassListings list_classes_of(const std::string& folder, const std::vector<std::string>& classes,
                              const std::string& cache, size_t least = 10'000);

}  // namespace sg::data
