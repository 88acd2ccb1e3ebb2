#include "nn/state.h"

#include <algorithm>

namespace sg::nn {

std::vector<std::pair<std::string, Shape>> state_shapes(const ParameterStore& parameters) {
  std::vector<std::pair<std::string, Shape>> shapes;
  for (const std::string& name : parameters.names())
    shapes.emplace_back(name, parameters.part(name).official);
  for (const Buffer& b : parameters.named_buffers()) shapes.emplace_back(b.name, b.shape);
  return shapes;
}

std::vector<NamedTensor> state_of(const ParameterStore& parameters) {
  std::vector<NamedTensor> tensors;
  for (const std::string& name : parameters.names())
    tensors.emplace_back(name, parameters.get(parameters.values(), name));
  for (const Buffer& b : parameters.named_buffers())
    tensors.emplace_back(b.name, b.value.to(Device{}).clone());
  return tensors;
}

void set_state(ParameterStore& parameters, const std::vector<NamedTensor>& tensors) {
  const auto& buffers = parameters.named_buffers();
  for (const auto& [name, tensor] : tensors) {
    if (parameters.contains(name))
      parameters.set(parameters.values(), name, tensor);
    else if (const auto b = std::ranges::find(buffers, name, &Buffer::name); b != buffers.end())
      Tensor(b->value).copy_(tensor);
  }
}

}  // namespace sg::nn
