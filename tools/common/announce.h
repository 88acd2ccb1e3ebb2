// What programs that read weights say of them.
#pragma once
#include <fmt/format.h>

#include <cstdio>

#include "core/text.h"
#include "infer/model_file.h"

namespace sg::tools {

// Says on standard error which weights were taken from where.
inline void announce(const infer::ModelFile& file) {
  fmt::print(stderr, "{}{}\n", escape_odd_bytes(file.summary),
             file.class_names.empty() ? "; no class names in it" : "");
}

}  // namespace sg::tools
