// An image classifier: the backbone, the mean over the tokens of the last map, a linear head.
//
//   Classifier model(find_config("sgformer_s"));
//   model.parameters().allocate();
//   model.parameters().initialize(seed);
//   Tensor logits = model.forward(images).logits;
#pragma once
#include "sgformer/backbone.h"

namespace sg::sgformer {

class Classifier {
 public:
  struct Output : Features {
    Tensor logits;  // (B, classes)
  };

  // Declares all parameters in the order of the published model; they are to be allocated next.
  explicit Classifier(Config config);

  const Config& config() const { return backbone_.config(); }
  const Backbone& backbone() const { return backbone_; }
  nn::ParameterStore& parameters() { return parameters_; }
  const nn::ParameterStore& parameters() const { return parameters_; }

  // images (B, H, W, 3), normalized, any size of at least 1 x 1.
  Output forward(const Tensor& images, const ForwardOptions& options = {}) const;

 private:
  nn::ParameterStore parameters_;
  Backbone backbone_;
  nn::Linear head_;
};

}  // namespace sg::sgformer
