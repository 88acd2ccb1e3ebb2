#include <zlib.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "data/dataset.h"

namespace sg::data {
namespace {

constexpr int64_t kMaxBytes = int64_t{16} << 30;

[[noreturn]] void bad(const std::string& path, const std::string& what) {
  fail(ExitCode::data, "{}: broken IDX file: {}; download it again", path, what);
}

// zlib reads plain files too.
class IdxFile {
 public:
  explicit IdxFile(const std::string& path) : path_(path), file_(::gzopen(path.c_str(), "rbe")) {
    if (!file_) fail(ExitCode::data, "{}: cannot be opened for reading", path);
    ::gzbuffer(file_, 1 << 17);
  }
  ~IdxFile() { ::gzclose(file_); }
  IdxFile(const IdxFile&) = delete;
  IdxFile& operator=(const IdxFile&) = delete;

  // Grows with what is really there: a header may claim anything.
  std::vector<uint8_t> read(int64_t bytes) {
    std::vector<uint8_t> data;
    while (int64_t(data.size()) < bytes) {
      const size_t done = data.size();
      const size_t n = size_t(std::min<int64_t>(bytes - int64_t(done), 1 << 24));
      data.resize(done + n);
      const int got = ::gzread(file_, data.data() + done, unsigned(n));
      if (got != int(n)) bad(path_, fmt::format("truncated or damaged after {} bytes", done));
    }
    return data;
  }
  int64_t number() {
    const auto b = read(4);
    return int64_t(b[0]) << 24 | b[1] << 16 | b[2] << 8 | b[3];
  }
  // Also makes zlib compare the checksum.
  void expect_end() {
    uint8_t more;
    const int got = ::gzread(file_, &more, 1);
    if (got > 0) bad(path_, "more data than its header says");
    int error = Z_OK;
    ::gzerror(file_, &error);
    if (got < 0 || error != Z_OK) bad(path_, "its compressed data end early or are damaged");
  }

 private:
  std::string path_;
  gzFile file_;
};

const ClassNames kFashion = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                             "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

bool is_fashion(const std::string& path) {
  std::error_code error;
  std::string full = std::filesystem::weakly_canonical(path, error).string();
  std::transform(full.begin(), full.end(), full.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return full.find("fashion") != std::string::npos;
}

}  // namespace

IdxDataset::IdxDataset(const std::string& images, const std::string& labels,
                       const ClassNames& expected)
    : path_(images) {
  IdxFile image_file(images), label_file(labels);
  if (const int64_t magic = image_file.number(); magic != 0x803)
    bad(images, fmt::format("expected magic number 0x803 (images), found {:#x}", magic));
  const int64_t count = image_file.number(), height = image_file.number(),
                width = image_file.number();
  if (count < 1 || height < 1 || width < 1 || height > 65535 || width > 65535 ||
      count > kMaxBytes / (height * width))
    bad(images, fmt::format("its header says {} images of {} x {}", count, width, height));
  if (const int64_t magic = label_file.number(); magic != 0x801)
    bad(labels, fmt::format("expected magic number 0x801 (labels), found {:#x}", magic));
  if (const int64_t n = label_file.number(); n != count)
    bad(labels, fmt::format("{} labels for the {} images of {}", n, count, images));
  pixels_ = image_file.read(count * height * width), image_file.expect_end();
  labels_ = label_file.read(count), label_file.expect_end();
  height_ = int(height), width_ = int(width);

  const int classes = *std::max_element(labels_.begin(), labels_.end()) + 1;
  class_names_ = expected;
  if (expected.empty() && classes <= 10 && is_fashion(images)) class_names_ = kFashion;
  if (class_names_.empty())
    for (int c = 0; c < std::max(classes, 10); ++c) class_names_.push_back(std::to_string(c));
  if (classes > num_classes())
    bad(labels, fmt::format("a label {}; expected 0 to {}", classes - 1, num_classes() - 1));
}

std::string IdxDataset::name(int64_t i) const { return fmt::format("{}, image {}", path_, i); }

std::unique_ptr<Source> IdxDataset::open(int64_t i, std::vector<uint8_t>&) const {
  return open_pixels(pixels_.data() + size_t(i) * size_t(height_) * size_t(width_), height_, width_,
                     1);
}

}  // namespace sg::data
