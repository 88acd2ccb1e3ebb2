// SG-Former once more, slow and literal: every sentence of the specification as plain code over the
// naive operations, in float64. It pads, masks and materialises everything that the product avoids,
// shares no code with sgformer/ or ops/, and takes its weights by official name.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "sgformer/classifier.h"

namespace sg::test {

struct LiteralResult {
  Tensor loss, logits;
  std::vector<Tensor> significance;         // (B, H * W), of every hybrid block
  std::map<std::string, Tensor> gradients;  // official layout
  Tensor image_gradient;                    // (B, H, W, 3)
};

// Forward, then backward from <logits, upstream>.
LiteralResult run_literal(const sgformer::Config& config, const nn::ParameterStore& parameters,
                          const Tensor& images, const Tensor& upstream);

}  // namespace sg::test
