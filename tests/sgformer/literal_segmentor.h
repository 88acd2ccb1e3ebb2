// The segmentors once more, as literal.h: heads by the sentences of the specification.
#pragma once
#include "sgformer/segment/segmentor.h"

namespace sg::test {

struct LiteralSegmentation {
  Tensor logits, aux_logits;
  std::map<std::string, Tensor> gradients;  // official layout
  Tensor image_gradient;                    // (B, H, W, 3)
  std::map<std::string, Tensor> buffers;    // after the step
};

// Forward, then backward from <logits, upstream> and in training <aux_logits, aux_upstream>.
// dropout and aux_dropout: factors (B, C), or undefined.
LiteralSegmentation run_literal(const sgformer::Segmentor& model, const Tensor& images,
                                const sgformer::Segmentor::ForwardOptions& options,
                                const Tensor& upstream, const Tensor& aux_upstream);

}  // namespace sg::test
