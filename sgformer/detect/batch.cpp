#include "sgformer/detect/batch.h"

namespace sg::sgformer {
namespace {

template <class T>
std::vector<Tensor> on_host(const std::vector<Tensor>& maps) {
  std::vector<Tensor> result;
  for (const Tensor& map : maps) result.push_back(map.detach().to(Device{}).to(dtype_of<T>()));
  return result;
}

std::vector<ImageSize> sizes_of(const std::vector<Tensor>& maps) {
  std::vector<ImageSize> sizes;
  for (const Tensor& map : maps) sizes.emplace_back(int(map.dim(1)), int(map.dim(2)));
  return sizes;
}

}  // namespace

template <class T>
BatchProposals<T>::BatchProposals(const RpnHead::Output& outputs)
    : logits_(on_host<T>(outputs.logits)),
      deltas_(on_host<T>(outputs.deltas)),
      anchors_({}, sizes_of(logits_)) {}

template <class T>
Proposals<T> BatchProposals<T>::of(int64_t image, ImageSize size,
                                   const ProposalSettings& settings) const {
  std::vector<RpnLevel<T>> levels;
  for (size_t l = 0; l < logits_.size(); ++l)
    levels.push_back({logits_[l].slice(image, image + 1).template span<T>(),
                      deltas_of<T>(deltas_[l].slice(image, image + 1))});
  return rpn_proposals<T>(anchors_, levels, size, settings);
}

template class BatchProposals<float>;
template class BatchProposals<double>;

}  // namespace sg::sgformer
