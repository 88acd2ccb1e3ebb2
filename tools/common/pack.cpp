#include "tools/common/pack.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>

#include "core/text.h"
#include "data/epoch_order.h"
#include "data/loader.h"
#include "data/png_write.h"
#include "data/resize.h"
#include "data/threads.h"
#include "io/hash.h"
#include "io/json.h"
#include "io/tar.h"

namespace sg::tools {
namespace fs = std::filesystem;
namespace {

constexpr int kVersion = 1;
constexpr std::string_view kClasses = "classes.txt";
constexpr int64_t kAhead = 16;  // images of a worker that are made at a time

// Changes with every name and label of the images, and with size and time of their files.
std::string fingerprint(const data::Dataset& dataset) {
  Hash hash;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const std::string key = dataset.key(i);
    struct stat info {};
    const bool is_file = ::stat(dataset.file(i).c_str(), &info) == 0;
    const int64_t row[]{int64_t(key.size()), dataset.label(i), is_file ? info.st_size : 0,
                        is_file ? info.st_mtim.tv_sec : 0, is_file ? info.st_mtim.tv_nsec : 0};
    hash.add(row, sizeof row), hash.add(key.data(), key.size());
  }
  return hex(hash.digest());
}

struct Packed {
  int64_t sample;
  std::string name, error;  // the name in the shard, without extension; why it is broken
  std::string extension;    // ".jpg"
  std::vector<uint8_t> bytes;
};

// "00000012-n01440764_10026": its number makes it one of its own, and a dot would end the name.
std::string name_in_shard(const data::Dataset& dataset, int64_t sample) {
  const std::string key = dataset.key(sample);
  std::string stem = fs::path(key).stem().string();
  std::ranges::replace(stem, '.', '_');
  return fmt::format("{:08}-{}", sample, stem);
}

// Decodes sample i, and makes it smaller and encodes it where the settings say so.
void encode(const data::Dataset& dataset, const PackSettings& settings, Packed& packed) {
  packed.bytes.clear();
  data::Image image;
  const auto source = dataset.open(packed.sample, packed.bytes);
  source->read(image);
  const int64_t shorter = std::min(image.height, image.width), n = settings.resize;
  if (n > 0 && shorter > n) {
    // As torchvision's Resize: the longer side is truncated.
    const auto side = [&](int64_t length) { return int(n * length / shorter); };
    data::Image small;
    small.reset(side(image.height), side(image.width));
    data::Resizer()(image.view(),
                    data::Resize::whole(small.height, small.width, data::Filter::bicubic),
                    small.pixels.data());
    packed.bytes = data::encode_jpeg(small, int(settings.quality), settings.sampling);
    packed.extension = ".jpg";
  } else if (packed.bytes.empty()) {
    packed.bytes = data::encode_png(image), packed.extension = ".png";
  } else {
    // Readers go by the bytes, but take a file for an image by its name.
    packed.extension = data::extension_of(dataset.name(packed.sample));
    if (!data::is_image_extension(packed.extension)) packed.extension = ".jpg";
  }
}

Packed make(const data::Dataset& dataset, int64_t sample, const PackSettings& settings) {
  Packed packed{.sample = sample, .name = name_in_shard(dataset, sample)};
  try {
    encode(dataset, settings, packed);
  } catch (const Error& e) {
    if (e.code() != ExitCode::data) throw;
    packed.error = e.what();
  } catch (const std::bad_alloc&) {
    packed.error = dataset.name(sample) + ": no memory to decode it; use fewer workers";
  }
  return packed;
}

// The images from one position of the order on, made ahead by threads.
class Producer {
 public:
  Producer(const data::Dataset& dataset, const PackSettings& settings)
      : dataset_(dataset), settings_(settings), order_(dataset, {.seed = settings.seed}) {
    order_.start(0);
  }
  int64_t position() const { return next_ - int64_t(made_.size()); }
  void seek(int64_t position) {
    if (position == this->position()) return;
    next_ = position, made_.clear();
  }
  // That at position(); there must be one.
  Packed& front() {
    if (made_.empty()) make_more();
    return made_.front();
  }
  void pop() { made_.pop_front(); }

 private:
  void make_more() {
    const auto n = size_t(std::min(kAhead * settings_.workers, dataset_.size() - next_));
    made_.resize(n);
    data::each_by_threads(size_t(settings_.workers), n, [&](size_t i) {
      made_[i] = make(dataset_, order_.at(next_ + int64_t(i)).sample, settings_);
    });
    next_ += int64_t(n);
  }

  const data::Dataset& dataset_;
  const PackSettings& settings_;
  data::EpochOrder order_;
  std::deque<Packed> made_;
  int64_t next_ = 0;  // the first position that is not made
};

// A shard as `split`.sgpack.json knows it: of which positions of the order it is made.
struct Shard {
  std::string file, hash;
  int64_t begin = 0, end = 0, images = 0, bytes = 0;
};
void to_json(nlohmann::json& j, const Shard& s) {
  j = {{"file", s.file},     {"begin", s.begin}, {"end", s.end},
       {"images", s.images}, {"bytes", s.bytes}, {"xxh3", s.hash}};
}
void from_json(const nlohmann::json& j, Shard& s) {
  j.at("file").get_to(s.file), j.at("xxh3").get_to(s.hash);
  j.at("begin").get_to(s.begin), j.at("end").get_to(s.end);
  j.at("images").get_to(s.images), j.at("bytes").get_to(s.bytes);
}

nlohmann::json to_json(const PackSettings& s) {
  return {{"shard_bytes", s.shard_bytes},
          {"shard_images", s.shard_images},
          {"seed", s.seed},
          {"resize", s.resize},
          {"quality", s.resize ? s.quality : 0},
          {"subsampling", s.resize ? int(s.sampling) : 0}};
}

class Packer {
 public:
  Packer(const data::Dataset& dataset, const std::string& split, const fs::path& out,
         const PackSettings& settings, report::Console& console)
      : dataset_(dataset),
        split_(split),
        out_(out),
        settings_(settings),
        console_(console),
        producer_(dataset, settings),
        state_path_(out / (split + ".sgpack.json")),
        input_(fingerprint(dataset)) {}

  void run() {
    read_state();
    remove_unfinished();
    for (Shard& shard : shards_) {
      if (!is_whole(shard)) {
        console_.line(fmt::format("{}: is not there as it was written; made again", shard.file));
        producer_.seek(shard.begin);
        write(shard, shard.end);
      }
      show(shard.end);
    }
    int64_t begin = shards_.empty() ? 0 : shards_.back().end;
    producer_.seek(begin);
    while (skip_broken(), producer_.position() < dataset_.size()) {
      Shard& shard = shards_.emplace_back();
      shard.file = fmt::format("{}-{:06}.tar", split_, shards_.size() - 1);
      shard.begin = begin;
      check_free(shard);
      write(shard, dataset_.size());
      begin = shard.end;
    }
    int64_t images = 0;
    for (const Shard& s : shards_) images += s.images;
    if (images == 0) fail(ExitCode::data, "{}: no image of it can be read", split_);
    console_.line(fmt::format(
        "{}: {} images in {} shards{}", split_, images, shards_.size(),
        broken_.empty() ? "" : fmt::format(", {} broken ones left out", broken_.size())));
  }

 private:
  void read_state() {
    if (!fs::exists(fs::symlink_status(state_path_))) return;
    const std::string path = state_path_.string();
    try {
      const nlohmann::json state = parse_json(read_file(state_path_), path, ExitCode::usage);
      if (state.at("sgpack") != kVersion) fail(ExitCode::usage, "{}: of another version", path);
      if (const auto was = state.at("settings"), now = to_json(settings_); was != now)
        fail(ExitCode::usage,
             "{}: the shards here were packed with other settings: {}, now {}; choose another "
             "folder, or give the same",
             path, was.dump(), now.dump());
      if (state.at("input") != input_)
        fail(ExitCode::data,
             "{}: the images have changed since their packing began ({} then, {} now); choose "
             "another folder",
             path, state.at("images").dump(), dataset_.size());
      state.at("shards").get_to(shards_);
      for (const auto& [sample, message] : state.at("broken").items())
        broken_[parse_integer(sample).value()] = message.get<std::string>();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& e) {
      fail(ExitCode::usage, "{}: is none of sgpack: {}; choose another folder", path, e.what());
    }
  }

  void write_state() const {
    nlohmann::json broken = nlohmann::json::object();
    for (const auto& [sample, message] : broken_)
      broken[std::to_string(sample)] = escape_odd_bytes(message);
    const nlohmann::json state{{"sgpack", kVersion}, {"settings", to_json(settings_)},
                               {"input", input_},    {"images", dataset_.size()},
                               {"shards", shards_},  {"broken", broken}};
    write_file(state_path_, state.dump(1));
  }

  // Of a run that was killed.
  void remove_unfinished() const {
    for (const auto& item : fs::directory_iterator(out_)) {
      const std::string name = item.path().filename().string();
      const std::string_view file = AtomicFile::unfinished_of(name);
      if ((file.starts_with(split_ + "-") && file.ends_with(".tar")) ||
          file == state_path_.filename() || file == kClasses)
        fs::remove(item.path());
    }
  }

  bool is_whole(const Shard& shard) const {
    const fs::path path = out_ / shard.file;
    std::error_code absent;
    if (!fs::exists(path, absent)) return false;
    const InputFile file(path);
    return file.size() == uint64_t(shard.bytes) && hex(hash_of(file, file.size())) == shard.hash;
  }

  void check_free(const Shard& shard) const {
    if (fs::exists(fs::symlink_status(out_ / shard.file)))
      fail(ExitCode::usage, "{}: exists, and this packing did not write it; choose another folder",
           (out_ / shard.file).string());
  }

  // So that no shard begins where no image is left.
  void skip_broken() {
    while (producer_.position() < dataset_.size() && !producer_.front().error.empty())
      take_broken();
  }

  void take_broken() {
    const Packed& packed = producer_.front();
    if (broken_.emplace(packed.sample, packed.error).second)
      console_.warning(
          escape_odd_bytes(fmt::format("skipped, {} so far: {}", broken_.size(), packed.error)));
    const int64_t allowed = data::allowed_broken(settings_.max_broken_share, dataset_.size());
    if (int64_t(broken_.size()) > allowed)
      fail(ExitCode::data,
           "{} of {} images are broken, {} are allowed (--max-broken-share {}); they are named "
           "above; mend or remove them, or allow a larger share",
           broken_.size(), dataset_.size(), allowed, settings_.max_broken_share);
    producer_.pop();
  }

  // From the producer's position on, up to `end` or until the shard is full where it is new. What
  // it is made of is on disk before it takes its name.
  void write(Shard& shard, int64_t end) {
    const bool is_new = shard.hash.empty();
    shard.images = shard.bytes = 0;
    AtomicFile file(out_ / shard.file);
    Hash hash;
    const auto add = [&](const std::string& bytes) {
      file.write(bytes);
      hash.add(bytes.data(), bytes.size());
      shard.bytes += int64_t(bytes.size());
    };
    while (producer_.position() < end) {
      const Packed& packed = producer_.front();
      if (!packed.error.empty()) {
        take_broken();
        continue;
      }
      const std::string label = std::to_string(dataset_.label(packed.sample));
      std::string entry = tar_header(packed.name + packed.extension, packed.bytes.size());
      entry.append(packed.bytes.begin(), packed.bytes.end());
      entry += tar_padding(packed.bytes.size()) + tar_header(packed.name + ".cls", label.size()) +
               label + tar_padding(label.size());
      const int64_t bytes = shard.bytes + int64_t(entry.size() + tar_end().size());
      if (is_new && shard.images > 0 &&
          (bytes > settings_.shard_bytes || shard.images == settings_.shard_images))
        break;
      add(entry);
      ++shard.images;
      producer_.pop();
      show(producer_.position());
    }
    add(tar_end());
    shard.end = producer_.position(), shard.hash = hex(hash.digest());
    file.commit([&](const fs::path&) { write_state(); });
    console_.detail(fmt::format("{}: {} images, {:.1f} MB", shard.file, shard.images,
                                1e-6 * double(shard.bytes)));
  }

  void show(int64_t done) {
    console_.bar(
        progress_.text(split_, done, dataset_.size(), fmt::format("{} shards", shards_.size())));
  }

  const data::Dataset& dataset_;
  std::string split_;
  fs::path out_;
  const PackSettings& settings_;
  report::Console& console_;
  report::Progress progress_;
  Producer producer_;
  fs::path state_path_;
  std::string input_;
  std::vector<Shard> shards_;
  std::map<int64_t, std::string> broken_;  // why, by sample
};

}  // namespace

void pack(const data::Dataset& dataset, const std::string& split, const fs::path& out,
          const PackSettings& settings, report::Console& console) {
  Packer(dataset, split, out, settings, console).run();
}

void write_classes(const data::ClassNames& names, const fs::path& out) {
  const fs::path path = out / kClasses;
  if (fs::exists(fs::symlink_status(path))) {
    if (data::read_class_map(path.string()) != names)
      fail(ExitCode::usage, "{}: is there already, with other classes; choose another folder",
           path.string());
    return;
  }
  std::string lines;
  for (size_t c = 0; c < names.size(); ++c) lines += fmt::format("{} {}\n", names[c], c);
  AtomicFile file(path);
  file.write(lines);
  file.commit([&](const fs::path& written) {
    if (data::read_class_map(written.string()) != names)
      fail(
          ExitCode::data,
          "classes.txt: a class has a name that a line cannot hold (a line break, or spaces at its "
          "ends), one of {}; rename it",
          data::some_of(names));
  });
}

}  // namespace sg::tools
