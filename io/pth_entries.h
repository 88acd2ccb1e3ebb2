// Where the tensors of a torch.save file lie, found in its pickle.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/shape.h"
#include "io/pickle.h"
#include "io/stored_type.h"

namespace sg {

struct PthEntry {
  std::string problem;  // why this one tensor cannot be read; then nothing else is set
  StoredType type{};
  Shape shape;
  std::vector<int64_t> strides;  // in elements
  int64_t offset = 0;            // in elements
  std::string storage;           // its key
  int64_t storage_numel = 0;     // all elements of the tensor lie within it
};

// Tensors by their path ("state_dict.head.weight"). Errors start with `file`.
std::vector<std::pair<std::string, PthEntry>> pth_entries(const Pickle::Node& root,
                                                          const std::string& file);

// "FloatStorage": the class of torch that holds such elements.
std::string_view storage_class(StoredType type);

// The storage that a persistent id names; false where it is none.
bool read_storage(const Pickle::Node& persistent, PthEntry& entry);

}  // namespace sg
