// What a machine can do at most, measured: the limits that speeds are compared with.
#pragma once
#include <string>

#include "core/dtype.h"
#include "core/profile.h"

namespace sg::benchmark {

struct Roofline {
  Dtype dtype = Dtype::f32;  // of the model
  double matmul_flops = 0;   // operations a second of a large matmul of `dtype`
  double flops = 0;          // the same of acc_dtype(dtype), in which all but matmuls compute
  double bytes = 0;          // bytes read and written a second by a copy that exceeds the caches
};

// By all threads that kernels use, or by the GPU, in about a second.
Roofline measure_roofline(Device device, Dtype dtype);

// Whether an operation multiplies operands of the model's dtype: linear layers, convolutions,
// attention. All others convert what they load and compute in acc_dtype(dtype).
bool is_matmul(const std::string& op);

// The roof over an operation.
struct Limit {
  double seconds = 0;      // that it takes at least
  std::string limited_by;  // the dtype of its arithmetic ("bf16"), or "bytes"
};
Limit limit_of(const Roofline& roofline, const std::string& op, const profile::Row& row);

}  // namespace sg::benchmark
