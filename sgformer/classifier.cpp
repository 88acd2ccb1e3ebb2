#include "sgformer/classifier.h"

#include "ops/mean_pool/mean_pool.h"

namespace sg::sgformer {

Classifier::Classifier(Config config)
    : backbone_(nn::ParameterScope(parameters_), std::move(config)),
      head_(nn::ParameterScope(parameters_), "head", this->config().stages[3].dim,
            this->config().classes) {}

Classifier::Output Classifier::forward(const Tensor& images, const ForwardOptions& options) const {
  Features features = backbone_.forward(images, options);
  const Tensor logits = head_(mean_pool(features.maps[3]));
  return {std::move(features), logits};
}

}  // namespace sg::sgformer
