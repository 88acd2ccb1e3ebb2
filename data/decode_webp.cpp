// WebP by libwebp: the first frame, alpha dropped. What a frame leaves free is black.
#include <webp/decode.h>
#include <webp/demux.h>

#include <string>

#include "data/decoders.h"

namespace sg::data {
namespace {

class WebP final : public Source {
 public:
  WebP(Bytes bytes, std::string_view name, const DecodeLimits& limits) : name_(name) {
    const WebPData data{bytes.data(), bytes.size()};
    demuxer_.reset(WebPDemux(&data));
    if (!demuxer_) broken(name_, "WebP", "its structure is damaged or it is truncated");
    const int64_t width = WebPDemuxGetI(demuxer_.get(), WEBP_FF_CANVAS_WIDTH),
                  height = WebPDemuxGetI(demuxer_.get(), WEBP_FF_CANVAS_HEIGHT);
    check_size(name_, "WebP", height, width, limits);
    width_ = int(width), height_ = int(height);
  }

  using Source::read;
  void read(const Box& box, Image& out) override {
    check_box(*this, box);
    WebPIterator frame{};
    const std::unique_ptr<WebPIterator, void (*)(WebPIterator*)> releaser(&frame,
                                                                          WebPDemuxReleaseIterator);
    if (!WebPDemuxGetFrame(demuxer_.get(), 1, &frame)) broken(name_, "WebP", "it has no image");
    // The demuxer has checked that the frame lies in the canvas; its pixels say its size again.
    int width = 0, height = 0;
    if (!WebPGetInfo(frame.fragment.bytes, frame.fragment.size, &width, &height) ||
        width != frame.width || height != frame.height || frame.x_offset + width > width_ ||
        frame.y_offset + height > height_)
      broken(name_, "WebP", "its size is contradictory");
    Image whole;
    whole.reset(height_, width_);
    uint8_t* to = whole.row(frame.y_offset) + size_t(frame.x_offset) * 3;
    const size_t stride = size_t(width_) * 3;
    const size_t room = size_t(whole.pixels.data() + whole.pixels.size() - to);
    if (!WebPDecodeRGBInto(frame.fragment.bytes, frame.fragment.size, to, room, int(stride)))
      broken(name_, "WebP", "its image is damaged");
    copy_box(whole.view(), box, out);
  }

 private:
  std::string name_;
  std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> demuxer_{nullptr, WebPDemuxDelete};
};

}  // namespace

std::unique_ptr<Source> open_webp(Bytes bytes, std::string_view name, const DecodeLimits& limits) {
  return std::make_unique<WebP>(bytes, name, limits);
}

}  // namespace sg::data
