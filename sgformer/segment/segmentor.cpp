#include "sgformer/segment/segmentor.h"

namespace sg::sgformer {

// The auxiliary head is of the third map.
constexpr size_t kAuxiliaryMap = 2;

Segmentor::Segmentor(SegmentorConfig config) : config_(std::move(config)) {
  validate(config_);
  const nn::ParameterScope root(parameters_);
  backbone_ = std::make_unique<Backbone>(root / "backbone", config_.backbone);
  std::vector<int64_t> widths;
  for (const StageConfig& stage : config_.backbone.stages) widths.push_back(stage.dim);
  if (config_.head == Head::semantic_fpn)
    head_ = std::make_unique<SemanticFpn>(root, widths, config_);
  else
    head_ = std::make_unique<UperNet>(root / "decode_head", widths, config_);
  if (config_.auxiliary_channels > 0)
    auxiliary_head_ = std::make_unique<FcnHead>(root / "auxiliary_head", widths[kAuxiliaryMap],
                                                config_.auxiliary_channels, config_.classes);
}

Segmentor::Output Segmentor::forward(const Tensor& images, const ForwardOptions& options) const {
  Features features =
      backbone_->forward(images, {.drop_paths = options.drop_paths,
                                  .significance = options.significance,
                                  .given_significance = options.given_significance});
  const BatchNormSettings norm{.training = options.training, .parts = parts_};
  Output out{.logits = (*head_)(features.maps, options.dropout, norm),
             .significance = std::move(features.significance)};
  // Last, as its parameters are: backward begins with it.
  if (options.training && auxiliary_head_)
    out.aux_logits = (*auxiliary_head_)(features.maps[kAuxiliaryMap], options.aux_dropout, norm);
  return out;
}

nn::GroupRule group_rule(const SegmentorConfig& config, const GroupSettings& settings) {
  return [head = config.head, by_depth = group_rule(config.backbone, settings, "backbone.")](
             const nn::NamedSlice& part) {
    nn::ParameterGroup group = by_depth(part);
    if (group.frozen) return group;
    const auto named = [&](std::string_view word) {
      return part.name.find(word) != part.name.npos;
    };
    const bool decays = head == Head::semantic_fpn || !(named("norm") || named("pos_embed"));
    group.weight_decay_scale = decays ? 1 : 0;
    return group;
  };
}

}  // namespace sg::sgformer
