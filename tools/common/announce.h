// What programs that read weights say of them.
#pragma once
#include "infer/model_file.h"
#include "tools/common/cli.h"

namespace sg::tools {

// Says on standard error which weights were taken from where.
template <class Model>
void announce(const infer::LoadedModel<Model>& file) {
  say(file.summary + (file.class_names.empty() ? "; no class names in it" : ""));
}

}  // namespace sg::tools
