// The flags that say which model is meant, shared by the programs that build one.
#pragma once
#include <string>

#include "sgformer/config.h"
#include "tools/common/cli.h"

namespace sg::tools {

struct ModelOptions {
  std::string model = "sgformer_s", guidance, scales, regions;
  bool balance_significance = false, grad_checkpointing = false;
  int64_t classes = 0;  // 0: the model's own

  // --guidance --scales --regions --balance-significance --grad-checkpointing --num-classes
  void add_to(CLI::App& app);
  sgformer::Config config() const { return apply_to(sgformer::find_config(model)); }
  // A configuration with those that were given in place of its own.
  sgformer::Config apply_to(sgformer::Config c) const;
};

struct ImageSize {
  int64_t height, width;
};
// "224" or "800x1344"; throws ExitCode::usage.
ImageSize parse_image_size(const std::string& text);

}  // namespace sg::tools
