// A data set into tar shards of WebDataset's form.
#pragma once
#include <filesystem>
#include <string>

#include "data/dataset.h"
#include "data/jpeg_write.h"
#include "report/console.h"

namespace sg::tools {

struct PackSettings {
  int64_t shard_bytes = 256'000'000;  // at most, but for a shard of one image
  int64_t shard_images = 0;           // at most; 0: no limit
  uint64_t seed = 42;                 // of the order of the images
  int64_t resize = 0;                 // pixels of the shorter side where it is longer; 0: never
  int64_t quality = 90;               // of the JPEG files that resized images become
  data::ChromaSampling sampling = data::ChromaSampling::quarter;
  int64_t workers = 2;  // threads that read, decode and encode
  double max_broken_share = 0.01;
};

// Writes `split`-000000.tar and so on into `out`, each sample an image and its .cls, in an order
// that is drawn by the seed. Images that are not resized keep their bytes, those of IDX files
// become PNG. All are decoded: broken ones are named and left out, and more than
// max_broken_share of them are an Error.
//
// A shard takes its name when it is complete, and `split`.sgpack.json tells what it is made of: a
// run that was ended goes on behind the last one. Shards that this file knows are read back, and
// made again where they are not as written. Throws ExitCode::usage where the settings have changed
// or a file is in the way that this program did not write, ExitCode::data where the input has
// changed. The caller holds the lock of `out`.
void pack(const data::Dataset& dataset, const std::string& split, const std::filesystem::path& out,
          const PackSettings& settings, report::Console& console);

// OUT/classes.txt, "name index" a line. Throws ExitCode::usage where another is there,
// ExitCode::data where a name cannot be written in a line.
void write_classes(const data::ClassNames& names, const std::filesystem::path& out);

}  // namespace sg::tools
