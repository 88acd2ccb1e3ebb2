// All that a file of weights holds of a model: parameters and buffers, under their names.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.h"
#include "nn/parameters.h"

namespace sg::nn {

// Official shapes: those of the parameters in order of declaration, then those of the buffers.
std::vector<std::pair<std::string, Shape>> state_shapes(const ParameterStore& parameters);
// Copies on the CPU, in the same order and in official layout.
std::vector<NamedTensor> state_of(const ParameterStore& parameters);
// Each tensor into the parameter or buffer of its name; converts the dtype. Others are passed over.
void set_state(ParameterStore& parameters, const std::vector<NamedTensor>& tensors);

}  // namespace sg::nn
