#include "sgformer/fpn.h"

#include "ops/nearest_resize/nearest_resize.h"

namespace sg::sgformer {

Fpn::Fpn(const nn::ParameterScope& scope, const std::vector<int64_t>& in, int64_t out,
         size_t outputs)
    : one_more_(outputs == in.size() + 1) {
  check(outputs == in.size() || one_more_, "fpn: expected {} or {} outputs, found {}", in.size(),
        in.size() + 1, outputs);
  const auto add = [&](std::vector<nn::Conv2d>& to, const char* list, int kernel, int64_t from) {
    to.emplace_back(scope / list / fmt::format("{}", to.size()), "conv", kernel, from, out,
                    nn::Init::xavier);
  };
  for (const int64_t channels : in) add(laterals_, "lateral_convs", 1, channels);
  for (size_t i = 0; i < in.size(); ++i) add(outputs_, "fpn_convs", 3, out);
}

std::vector<Tensor> Fpn::operator()(const std::vector<Tensor>& maps) const {
  check(maps.size() == laterals_.size(), "fpn: expected {} maps, found {}", laterals_.size(),
        maps.size());
  std::vector<Tensor> result(maps.size());
  Tensor x;  // the coarser map
  for (size_t i = maps.size(); i-- > 0;) {
    const Tensor lateral = laterals_[i](maps[i]);
    x = x ? nearest_resize(x, lateral.dim(1), lateral.dim(2), lateral) : lateral;
    result[i] = outputs_[i](x);
    // Every second row and column of the same convolution, which is computed there alone.
    if (one_more_ && i + 1 == maps.size()) result.push_back(outputs_[i](x, 2));
  }
  return result;
}

}  // namespace sg::sgformer
