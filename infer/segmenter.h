// A label for every pixel of an image of any size: resized as evaluation does it, through the
// network, and the logits back to the image's own pixels.
//
// Memory beyond that of the network's forward pass, with K classes and 4 bytes a value:
//   whole images           K values for each 4 x 4 pixels that the network sees
//   sliding windows        K a pixel that the network sees, and K a pixel of a window
//   several ratios, flips  besides, K a pixel of the image
// The loss takes a row of labels of each thread besides, of several views one value a pixel.
#pragma once
#include <optional>
#include <vector>

#include "data/segmentation_transform.h"
#include "ops/normalize_images/normalize_images.h"
#include "sgformer/segment/segmentor.h"

namespace sg::infer {

// The network sees windows of `crop` pixels a side, `stride` apart, as mmsegmentation's "slide";
// their logits are averaged where they overlap.
struct SlidingWindows {
  int crop = 512, stride = 341;
};

inline constexpr int kAlignResize = 32;

struct SegmenterSettings {
  // The image is resized into these sides, its ratio kept (mmsegmentation's img_scale).
  data::ImageScale scale;
  // Then both sides are stretched to the next multiples (AlignResize), so that no map is padded; 1:
  // they are not.
  int align = kAlignResize;
  std::optional<SlidingWindows> slide{};
  // Several views of the image: at these multiples of `scale`, and each of them mirrored too. The
  // probabilities of all are averaged, at the image's own size.
  std::vector<double> ratios{1};
  bool flip = false;
  ChannelStats stats{};

  void check() const;  // throws ExitCode::usage
};

// mmsegmentation's ratios for testing at several scales; with flips 12 views.
inline const std::vector<double> kTestRatios{0.5, 0.75, 1, 1.25, 1.5, 1.75};

// "resized into (2048, 512) and to multiples of 32 (AlignResize), 6 ratios, flipped too": for
// people, who compare scores.
std::string describe(const SegmenterSettings& settings);

// Windows that cover a map, row by row; those that would leave it are moved inside, and where it is
// smaller than a window they are as small as it is.
std::vector<Box> windows_of(ImageSize map, const SlidingWindows& windows);

class Segmenter {
 public:
  // The model must outlive it; its weights may change between calls.
  Segmenter(const sgformer::Segmentor& model, SegmenterSettings settings);
  const SegmenterSettings& settings() const { return settings_; }

  // What the network is to see of an image: as many sizes as there are ratios.
  struct Views {
    ImageSize image;
    std::vector<data::Image> seen;
  };
  // May be called from several threads.
  Views views(const data::Image& image) const;

  struct Labels {
    Tensor labels;  // u8 (H, W), on the CPU
    // If asked for: the last significance map of each stage that has one, (h, w) f32 on the CPU.
    std::vector<Tensor> significance;
    // If the truth is given: the sum over its labelled pixels of the cross entropy of the
    // prediction there. Of one view the logits are resized as in training
    // (ops/pixel_cross_entropy); of several it is the logarithm of the averaged probability.
    double loss = 0;
  };
  // Throws ExitCode::nonfinite where the weights are damaged. Significance is that of the first
  // view, which must be whole (no sliding windows). `truth` has the image's size.
  Labels operator()(const Views& views, bool significance = false,
                    const data::LabelImage* truth = nullptr) const;

 private:
  sgformer::Segmentor::Output forward(const data::ImageView& view, bool mirrored,
                                      bool significance) const;
  Tensor logits_of_windows(const data::Image& seen, bool mirrored) const;

  const sgformer::Segmentor& model_;
  SegmenterSettings settings_;
};

}  // namespace sg::infer
