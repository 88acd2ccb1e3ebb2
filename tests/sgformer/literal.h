// SG-Former once more, slow and literal: every sentence of the specification as plain code over the
// naive operations, in float64. It pads, masks and materialises everything that the product avoids,
// shares no code with sgformer/ or ops/, and takes its weights by official name.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "sgformer/classifier.h"

namespace sg::test {

// Parameters as leaves, in official layout; names are looked up behind `prefix`.
struct LiteralWeights {
  std::map<std::string, Tensor> leaves;
  std::string prefix;

  LiteralWeights in(const std::string& name) const { return {leaves, prefix + name + "."}; }
  Tensor operator()(const std::string& name) const { return leaves.at(prefix + name); }
};
LiteralWeights literal_weights(const nn::ParameterStore& parameters);

struct LiteralFeatures {
  std::vector<Tensor> maps;          // (B, H, W, C) of the four stages
  std::vector<Tensor> significance;  // (B, H * W), of every hybrid block
};
LiteralFeatures literal_backbone(const sgformer::Config& config, const LiteralWeights& weights,
                                 const Tensor& images);

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
