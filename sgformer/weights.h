// A model's weights from whatever file holds them.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.h"
#include "sgformer/weight_copies.h"

namespace sg::sgformer {

struct Weights {
  std::vector<NamedTensor> tensors;  // under their official names
  bool ema = false;                  // the averaged ones
  std::vector<std::string> classes;  // names that mmsegmentation puts beside them; or none
  std::string prefix;                // taken off the names that they have in the file
  std::string summary;               // of the above, a line for people that starts with the file

  // The head of one is among them.
  bool of_segmentor() const { return holds_any(kDecodeHead); }
  bool of_detector() const { return holds_any(kRpnHead); }

 private:
  bool holds_any(std::string_view prefix) const;  // tensors whose names begin so
};

// From a checkpoint of ours, a plain safetensors file or one of torch.save; which it is, its first
// bytes say. `ema`: the averaged weights or not, an error where the file lacks them; left out: the
// averaged ones where it has them. The wrappings of other programs are taken off (weight_copies.h).
Weights load_weights(const std::filesystem::path& path, std::optional<bool> ema = {});

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
