// Where a program computes, and in which precision.
#pragma once
#include <string>

#include "core/device.h"
#include "core/dtype.h"

namespace sg {

struct Compute {
  Device device;
  Dtype dtype = Dtype::f32;  // of activations and matrix products; f32 or, on cuda, bf16
};

constexpr const char* kDeviceHelp = "cpu, or cuda or cuda:N where there is a card";
constexpr const char* kDtypeHelp =
    "of activations: f32, bf16 (cuda; weights, sums and statistics stay f32), or auto: bf16 on "
    "cuda, f32 on cpu";

// From --device: a device that can be used. Throws ExitCode::usage where the build or the machine
// does not have it, and where it is the CPU although SG_REQUIRE_CUDA is set.
Device parse_usable_device(const std::string& device);

// From --device and --dtype. Throws as above, and ExitCode::usage where the device does not have
// the dtype.
Compute parse_compute(const std::string& device, const std::string& dtype);

}  // namespace sg
