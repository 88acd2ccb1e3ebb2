// A model's weights from whatever file holds them.
#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.h"

namespace sg::sgformer {

// Weights under their official names, from a checkpoint of ours, a plain safetensors file or one of
// torch.save. The wrappings of other programs are taken off: `state_dict`, `model`, `module`; with
// `ema` `state_dict_ema`, `model_ema`, `ema` (an error where the file has none of them).
std::vector<NamedTensor> load_weights(const std::filesystem::path& path, bool ema = false);

// True where load_weights(path, true) finds averaged weights.
bool has_ema(const std::filesystem::path& path);

// For other programs: a plain safetensors file with the official names.
void save_weights(const std::filesystem::path& path, const std::vector<NamedTensor>& weights);

// What differs between the tensors of a file and those that a model expects.
struct Differences {
  std::vector<std::string> missing, unexpected;
  struct Mismatch {
    std::string name;
    Shape expected, found;
  };
  std::vector<Mismatch> shapes;

  bool none() const { return missing.empty() && unexpected.empty() && shapes.empty(); }
  std::string table(size_t rows_of_a_kind = 20) const;  // for people; "" where there are none
};
Differences differences(const std::vector<NamedTensor>& found,
                        const std::vector<std::pair<std::string, Shape>>& expected);

}  // namespace sg::sgformer
