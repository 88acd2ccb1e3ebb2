// What a forward pass consists of: one row per layer, collected while a Trace lives on this thread.
// Multiply-adds are those that the operations state (core/profile.h).
#pragma once
#include <string>
#include <vector>

#include "core/tensor.h"

namespace sg::nn {

struct LayerRow {
  std::string name;  // official name prefix, e.g. "block1.0.mlp.fc1"
  std::string kind;  // "linear", "attention", ...
  Shape output;
  int64_t parameters = 0;
  double macs = 0;  // multiply-adds
  size_t output_bytes = 0;
};

// Runs a profile of the CPU; there can be no other at the time.
class Trace {
 public:
  Trace();
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;
  const std::vector<LayerRow>& rows() const { return rows_; }

 private:
  friend void trace(const std::string&, const char*, const Tensor&, int64_t, double);
  std::vector<LayerRow> rows_;
};

// Adds a row to the living Trace, if there is one: all operations since the row before are the
// layer's. `published_times`: how often the published model does what is done here once, so that
// its counts compare.
void trace(const std::string& name, const char* kind, const Tensor& output, int64_t parameters,
           double published_times = 1);

}  // namespace sg::nn
