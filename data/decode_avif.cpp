// AVIF by libavif, which is opened at the first such image: with its codecs it is as large as all
// the rest, and few data sets need it. Rotation and mirroring of the file are not applied, as EXIF
// orientation is not.
#include <avif/avif.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "core/library.h"
#include "data/decoders.h"
#include "io/file.h"

namespace sg::data {
namespace {

// The functions of libavif that are used, by their own names.
struct LibAvif {
  Library library{
      {.file = SG_AVIF_LIBRARY,
       .purpose = "reading AVIF images",
       .folders = {},
       .advice = "install it (Debian: apt-get install libavif15), or convert the images"}};
#define SG_AVIF_FUNCTION(name) decltype(::name)* name = library.function<decltype(::name)>(#name)
  SG_AVIF_FUNCTION(avifDecoderCreate);
  SG_AVIF_FUNCTION(avifDecoderDestroy);
  SG_AVIF_FUNCTION(avifDecoderSetIOMemory);
  SG_AVIF_FUNCTION(avifDecoderParse);
  SG_AVIF_FUNCTION(avifDecoderNextImage);
  SG_AVIF_FUNCTION(avifRGBImageSetDefaults);
  SG_AVIF_FUNCTION(avifImageYUVToRGB);
  SG_AVIF_FUNCTION(avifResultToString);
#undef SG_AVIF_FUNCTION
};

const LibAvif& avif() {
  static const LibAvif functions;
  return functions;
}

// Runs `body` in a thread with file descriptors of its own, where standard error leads nowhere: the
// codecs print there what libavif returns as well. Where the system forbids it, they print.
void without_messages(const std::function<void()>& body) {
  std::exception_ptr error;
  std::thread([&] {
    if (::unshare(CLONE_FILES) == 0)
      if (const FileDescriptor nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
          nowhere.get() >= 0)
        ::dup2(nowhere.get(), STDERR_FILENO);
    try {
      body();
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
}

class Avif final : public Source {
 public:
  Avif(Bytes bytes, std::string_view name, const DecodeLimits& limits)
      : name_(name), decoder_(avif().avifDecoderCreate(), avif().avifDecoderDestroy) {
    check(decoder_ != nullptr, "{}: out of memory", name_);
    decoder_->maxThreads = 1;  // images are loaded by as many workers as there are cores
    decoder_->ignoreExif = decoder_->ignoreXMP = AVIF_TRUE;
    decoder_->imageSizeLimit = uint32_t(std::min<int64_t>(limits.max_pixels, 1 << 28));
    decoder_->imageDimensionLimit = uint32_t(std::min<int64_t>(limits.max_side, INT32_MAX));
    decoder_->strictFlags &= ~avifStrictFlags(AVIF_STRICT_CLAP_VALID | AVIF_STRICT_PIXI_REQUIRED);
    require(avif().avifDecoderSetIOMemory(decoder_.get(), bytes.data(), bytes.size()));
    require(avif().avifDecoderParse(decoder_.get()));
    check_size(name_, "AVIF", decoder_->image->height, decoder_->image->width, limits);
    width_ = int(decoder_->image->width), height_ = int(decoder_->image->height);
  }

  using Source::read;
  void read(const Box& box, Image& out) override {
    check_box(*this, box);
    avifResult result = AVIF_RESULT_OK;
    without_messages([&] { result = avif().avifDecoderNextImage(decoder_.get()); });
    require(result);
    const avifImage* image = decoder_->image;
    if (int64_t{image->width} != width_ || int64_t{image->height} != height_)
      broken(name_, "AVIF", "its size is contradictory");
    avifRGBImage rgb;
    avif().avifRGBImageSetDefaults(&rgb, image);
    rgb.depth = 8;
    // With alpha where there is one: colours that were multiplied by it are divided again.
    const size_t channels = image->alphaPlane ? 4 : 3;
    rgb.format = channels == 4 ? AVIF_RGB_FORMAT_RGBA : AVIF_RGB_FORMAT_RGB;
    std::vector<uint8_t> pixels(size_t(width_) * size_t(height_) * channels);
    rgb.pixels = pixels.data(), rgb.rowBytes = uint32_t(size_t(width_) * channels);
    require(avif().avifImageYUVToRGB(image, &rgb));
    out.reset(box.height, box.width);
    for (int y = 0; y < box.height; ++y) {
      const uint8_t* from =
          &pixels[(size_t(box.top + y) * size_t(width_) + size_t(box.left)) * channels];
      uint8_t* to = out.row(y);
      for (int x = 0; x < box.width; ++x, from += channels, to += 3) std::copy_n(from, 3, to);
    }
  }

 private:
  void require(avifResult result) const {
    if (result == AVIF_RESULT_OK) return;
    if (result == AVIF_RESULT_NO_CODEC_AVAILABLE)
      fail(ExitCode::data,
           "{}: AVIF: {}; install a libavif with dav1d or aom (Debian: apt-get install libavif15)",
           name_, avif().avifResultToString(result));
    const std::string_view details = decoder_->diag.error;  // "dimensions too large", say
    broken(name_, "AVIF",
           fmt::format("{}{}{}", avif().avifResultToString(result), details.empty() ? "" : ": ",
                       details));
  }

  std::string name_;
  std::unique_ptr<avifDecoder, decltype(&::avifDecoderDestroy)> decoder_;
};

}  // namespace

std::unique_ptr<Source> open_avif(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  try {
    avif();
  } catch (const Error& e) {  // its images are broken ones then, and others go on
    fail(ExitCode::data, "{}: {}", name, e.what());
  }
  return std::make_unique<Avif>(bytes, name, limits);
}

}  // namespace sg::data
