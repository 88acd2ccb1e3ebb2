// Semantic segmentation: the backbone, and a head that gives each pixel logits of the classes.
// Names are those of mmsegmentation's state dicts: backbone, neck, decode_head, auxiliary_head.
//
//   Segmentor model(find_segmentor_config("sgformer_s", "upernet", 150));
//   model.parameters().allocate();
//   model.parameters().initialize(seed);
//   Tensor logits = model.forward(images, {.training = true, .dropout = keep}).logits;
#pragma once
#include <memory>

#include "sgformer/backbone.h"
#include "sgformer/parameter_groups.h"
#include "sgformer/segment/config.h"
#include "sgformer/segment/heads.h"

namespace sg::sgformer {

class Segmentor {
 public:
  struct Output {
    Tensor logits;  // (B, h, w, classes), of the size of the first map: a quarter of the images
    Tensor
        aux_logits;  // of the size of the third map; only in training, where there is such a head
    std::vector<SignificanceMap> significance;  // of every hybrid block, if asked
  };
  struct ForwardOptions {
    Tensor drop_paths;  // as sgformer::ForwardOptions
    // What draw_dropout2d() made of (B, dropout_channels()) and (B, aux_dropout_channels()), on the
    // device of the images; undefined: nothing is dropped.
    Tensor dropout, aux_dropout;
    bool training = false;  // batch norm by the statistics of the batch, and the auxiliary head
    bool significance = false;
    std::vector<SignificanceMap> given_significance;  // as sgformer::ForwardOptions
  };

  // Declares all parameters and buffers; they are to be allocated next.
  explicit Segmentor(SegmentorConfig config);

  const SegmentorConfig& config() const { return config_; }
  const Backbone& backbone() const { return *backbone_; }
  nn::ParameterStore& parameters() { return parameters_; }
  const nn::ParameterStore& parameters() const { return parameters_; }

  // images (B, H, W, 3), normalized, any size of at least 1 x 1. In training the running statistics
  // of batch norm, which are buffers of parameters(), follow the batch.
  Output forward(const Tensor& images, const ForwardOptions& options) const;
  Output forward(const Tensor& images) const { return forward(images, ForwardOptions()); }

  // In training, statistics of batch norm are those of all parts; null: of this process's alone.
  void set_batch_parts(BatchParts* parts) { parts_ = parts; }

  int64_t dropout_channels() const { return config_.channels; }
  int64_t aux_dropout_channels() const { return config_.auxiliary_channels; }

 private:
  SegmentorConfig config_;
  nn::ParameterStore parameters_;
  std::unique_ptr<Backbone> backbone_;
  std::unique_ptr<DecodeHead> head_;
  std::unique_ptr<FcnHead> auxiliary_head_;
  BatchParts* parts_ = nullptr;
};

// Weight decay as the published recipes of the two heads have it: with Semantic FPN all decays,
// with UperNet all but what has "norm" in its name and the positional embedding. Learning rates and
// freezing as group_rule() of the backbone.
nn::GroupRule group_rule(const SegmentorConfig& config, const GroupSettings& settings);

}  // namespace sg::sgformer
