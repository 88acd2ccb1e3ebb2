// The whole network.
//
//   Model model(find_config("sgformer_s"));
//   model.parameters().allocate();
//   model.parameters().initialize(seed);
//   Tensor logits = model.forward(images).logits;
#pragma once
#include <memory>
#include <vector>

#include "sgformer/block.h"

namespace sg::sgformer {

struct ForwardOptions {
  // Stochastic depth; off at evaluation. Factors are drawn from (seed, step, layer, sample).
  bool training = false;
  uint64_t seed = 0, step = 0;
  int64_t first_sample = 0;  // place of the batch's first image among the images of all ranks
  // What to keep besides the logits.
  bool features = false, significance = false;
};

struct SignificanceMap {
  int stage, block;  // counted from 0
  Tensor map;        // (B, H, W)
};

struct Output {
  Tensor logits;                 // (B, classes)
  std::vector<Tensor> features;  // normed maps (B, H_i, W_i, C_i) of the four stages, if asked
  std::vector<SignificanceMap> significance;  // of every hybrid block, if asked
};

class Model {
 public:
  // Declares all parameters in the order of the published model; they are to be allocated next.
  explicit Model(Config config);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Config& config() const { return config_; }
  nn::ParameterStore& parameters() { return parameters_; }
  const nn::ParameterStore& parameters() const { return parameters_; }

  // images (B, H, W, 3), normalised, any size of at least 1 x 1.
  Output forward(const Tensor& images, const ForwardOptions& options = {}) const;
  // The four feature maps alone (no head), for dense tasks.
  std::vector<Tensor> features(const Tensor& images, const ForwardOptions& options = {}) const;

 private:
  struct Stage {
    std::unique_ptr<PatchMerging> embed;  // none in stage 1, which has the stem
    std::vector<std::unique_ptr<Block>> blocks;
    nn::LayerNorm norm;
  };
  Tensor run_stages(const Tensor& images, const ForwardOptions& options, Output& output) const;
  Tensor run_block(const Block& block, const Tensor& x, Tensor& significance,
                   const BlockKeep& keep) const;

  Config config_;
  nn::ParameterStore parameters_;
  nn::Parameter* table_ = nullptr;
  std::unique_ptr<Stem> stem_;
  std::vector<Stage> stages_;
  nn::Linear head_;
};

// Rates of all blocks in order: linspace(0, config.drop_path).
std::vector<double> drop_path_rates(const Config& config);

}  // namespace sg::sgformer
