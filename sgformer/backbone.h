// The network without a head: an image becomes four feature maps.
//
//   nn::ParameterStore store;
//   Backbone backbone(nn::ParameterScope(store) / "backbone", find_config("sgformer_s"));
//   ... heads declare theirs ...
//   store.allocate();
//   store.initialize(seed);
//   std::vector<Tensor> maps = backbone.forward(images).maps;
#pragma once
#include <memory>
#include <vector>

#include "sgformer/block.h"

namespace sg::sgformer {

// Made by a hybrid block, used by the self-guided block after it.
struct SignificanceMap {
  int stage, block;  // counted from 0
  Tensor map;        // (B, H, W), acc_dtype(dtype of the images)
};

struct ForwardOptions {
  // Stochastic depth: what draw_drop_paths() returned, on the device of the images; undefined at
  // evaluation.
  Tensor drop_paths;
  bool significance = false;  // keep the significance maps
  // Empty, or maps of all hybrid blocks, in order, on the device of the images: self-guided blocks
  // rank tokens by these instead of by those computed, which Features::significance still has. So
  // two precisions can be compared, whose rankings would differ where significances nearly tie.
  std::vector<SignificanceMap> given_significance;
};

struct Features {
  std::vector<Tensor> maps;  // of the four stages, after their norms: (B, H_i, W_i, C_i)
  std::vector<SignificanceMap> significance;  // of every hybrid block, if asked
};

class Backbone {
 public:
  // Declares the parameters under `scope`, in the order of the published model.
  Backbone(const nn::ParameterScope& scope, Config config);
  Backbone(const Backbone&) = delete;
  Backbone& operator=(const Backbone&) = delete;

  const Config& config() const { return config_; }

  // images (B, H, W, 3), normalized, any size of at least 1 x 1.
  Features forward(const Tensor& images, const ForwardOptions& options = {}) const;

 private:
  struct Stage {
    std::unique_ptr<PatchMerging> embed;  // none in stage 1, which has the stem
    std::vector<std::unique_ptr<Block>> blocks;
    nn::LayerNorm norm;
  };
  nn::Residual run_block(const Block& block, const nn::Residual& x, Tensor& significance,
                         const DropPathFactors& keep) const;

  Config config_;
  nn::Parameter* pos_embed_ = nullptr;
  std::unique_ptr<Stem> stem_;
  std::vector<Stage> stages_;
};

// Factors of the residual branches of all blocks in training: (2 * blocks, batch) of the dtype
// acc_dtype(dtype), on the CPU; rows 2 i and 2 i + 1 are of attention and MLP of block i, each
// value 0 with the block's rate, else 1 / (1 - rate). Functions of (seed, step, branch) and the
// sample's place `first_sample + i` among those of the step. With `out`, they are written there.
Tensor draw_drop_paths(const Config& config, int64_t batch, uint64_t seed, uint64_t step,
                       int64_t first_sample, Dtype dtype = Dtype::f32, Tensor out = {});

// Rates of all blocks in order: linspace(0, config.drop_path).
std::vector<double> drop_path_rates(const Config& config);

}  // namespace sg::sgformer
