// sgpack: a data set into tar shards, which are read from begin to end instead of file by file.
#include <algorithm>
#include <filesystem>

#include "core/text.h"
#include "io/file.h"
#include "tools/common/options.h"
#include "tools/common/pack.h"

namespace {

namespace data = sg::data;
namespace fs = std::filesystem;

// The data set `split` of DIR, or DIR itself where it holds the classes.
std::unique_ptr<data::Dataset> open(const std::string& dir, const std::string& split, bool flat,
                                    const data::DatasetRequest& request) {
  return data::open_dataset(dir, split == "train" && !flat ? data::Split::train : data::Split::val,
                            request);
}

bool is_within(const fs::path& path, const fs::path& folder) {
  const fs::path way = fs::weakly_canonical(fs::current_path() / path)
                           .lexically_relative(fs::weakly_canonical(fs::current_path() / folder));
  return !way.empty() && *way.begin() != "..";
}

// Shards in a folder whose sub-folders are classes would be one of them.
void check_outside(const std::string& out, const std::string& dir, bool flat,
                   const data::DatasetRequest& request) {
  std::vector<fs::path> folders;
  if (flat) folders = {dir};
  for (const std::string& split : {request.train_split, request.val_split})
    for (const std::string& name : data::split_folders(split))
      if (fs::is_directory(fs::path(dir) / name)) folders.push_back(fs::path(dir) / name);
  for (const fs::path& folder : folders)
    if (is_within(out, folder))
      sg::fail(sg::ExitCode::usage,
               "{}: in {}, whose folders are the classes: shards there would be one; choose a "
               "folder outside",
               out, folder.string());
}

}  // namespace

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Packs the images of DIR, which any program takes as --data, into shards "
        "OUT/train-000000.tar and OUT/val-000000.tar of WebDataset's form, in an order that the "
        "seed draws, with their "
        "classes in OUT/classes.txt. Then --data OUT takes the place of DIR. Started again it goes "
        "on where it was ended.");
    std::string dir, out, split = "all", subsampling = "420";
    sg::tools::PackSettings settings;
    int64_t megabytes = settings.shard_bytes / 1'000'000;
    sg::train::Options o;
    app.add_option("dir", dir, "the data set, or the folder of its classes")->required();
    app.add_option("out", out, "folder for the shards; made where it is not there")->required();
    sg::tools::add_choice(app, "--split", split, {"all", "train", "val"},
                          "what to pack; of a folder of classes, what to call it (all: train)");
    sg::tools::add_option(app, {"--shard-size", "MB of a shard at most", {}, 1, 1e6}, megabytes);
    sg::tools::add_option(app,
                          {"--shard-images", "images of a shard at most; 0: no limit", {}, 0, 1e9},
                          settings.shard_images);
    sg::tools::add_option(
        app,
        {"--resize",
         "pixels of the shorter side of images that are larger, which become JPEG; 0: all images "
         "keep their bytes",
         {},
         0,
         65500},
        settings.resize);
    sg::tools::add_option(app, {"--quality", "of the JPEG files that --resize writes", {}, 1, 100},
                          settings.quality);
    sg::tools::add_choice(app, "--subsampling", subsampling, {"420", "444"},
                          "colours of those files: 420, one for 2 x 2 pixels, or 444, one each");
    sg::tools::add_options(app, o,
                           {"train-split", "val-split", "class-map", "class-order", "seed",
                            "workers", "max-broken-share"});
    sg::tools::parse(app, argc, argv);
    settings.shard_bytes = megabytes * 1'000'000;
    settings.sampling =
        subsampling == "444" ? data::ChromaSampling::full : data::ChromaSampling::quarter;
    settings.seed = uint64_t(o.seed);
    settings.workers = std::max<int64_t>(sg::train::loading_threads(o), 1);
    settings.max_broken_share = o.max_broken_share;

    data::DatasetRequest request = sg::train::dataset_request(o);
    const fs::path known = fs::path(out) / "classes.txt";
    if (request.classes.empty() && fs::exists(known))
      request.classes = data::read_class_map(known.string());
    const bool has_train = data::has_training_set(dir, request),
               has_val = data::has_validation_set(dir, request), flat = !has_train && !has_val;
    check_outside(out, dir, flat, request);
    std::vector<std::string> splits;
    if (split != "all") splits = {split};
    if (split == "all" && (has_train || flat)) splits.push_back("train");
    if (split == "all" && has_val) splits.push_back("val");
    // Those of the training set hold for the validation set.
    if (request.classes.empty() && has_train && splits[0] == "val")
      request.classes = data::list_classes(dir, request);

    sg::report::Console console;
    std::optional<sg::FolderLock> lock;
    for (const std::string& name : splits) {
      const auto dataset = open(dir, name, flat, request);
      for (const std::string& remark : dataset->remarks())
        console.line(sg::escape_odd_bytes(remark));
      if (!lock) lock.emplace(out);
      sg::tools::write_classes(dataset->class_names(), out);
      sg::tools::pack(*dataset, name, out, settings, console);
      request.classes = dataset->class_names();
    }
    return sg::ExitCode::ok;
  });
}
