// Writes what torch.load reads, its safe mode (weights_only=True) too.
#pragma once
#include <optional>
#include <vector>

#include "io/safetensors.h"

namespace sg {

// A zip file of torch.save that holds an OrderedDict of these tensors, in this order: a state_dict.
// Tensors are on the CPU and their names differ; `type` is that of stored_type(). At most 4 GiB.
void write_pth(const ByteSink& sink, const std::vector<NamedTensor>& tensors,
               std::optional<StoredType> type = {});

}  // namespace sg
