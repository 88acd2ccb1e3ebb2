// Where a program computes, and in which precision.
#pragma once
#include <string>

#include "core/device.h"
#include "core/dtype.h"

namespace sg {

struct Compute {
  Device device;
  Dtype dtype = Dtype::f32;    // of activations and operands of matmuls: f32 or bf16
  bool is_auto_dtype = false;  // nobody asked for it
  std::string reason;          // for the CPU, where "auto" found no GPU: why; else empty
};

// What --dtype bf16 is on a CPU that does not multiply bf16: an error (never); an error that names
// --emulate-bf16 (not_requested); or computed by conversion to f32, as that flag asks (requested).
enum class Bf16Emulation { never, not_requested, requested };

constexpr const char* kDeviceHelp =
    "auto: the GPU where a usable one is, else the CPU; or cpu, cuda, cuda:N";
constexpr const char* kDtypeHelp =
    "of activations: f32, bf16 (weights, sums and statistics stay f32; a CPU needs AVX512-BF16 or "
    "AMX), or auto: bf16 on cuda, f32 on cpu, so that results do not depend on which CPU it is";

// From --device: a device that can be used; dtype stays as it is. "auto" is the first usable GPU,
// else the CPU. Throws ExitCode::usage where the build or the machine does not have what is asked
// for, and where it is the CPU although SG_REQUIRE_CUDA is set.
Compute parse_usable_device(const std::string& device);

// From --device and --dtype. Throws as above, and ExitCode::usage where the device does not have
// the dtype.
Compute parse_compute(const std::string& device, const std::string& dtype,
                      Bf16Emulation emulation = Bf16Emulation::never);

// "f32", "bf16 by AVX512-BF16", "bf16 by conversion to f32"
std::string describe_dtype(const Compute& compute);
// "computing on cuda:0: NVIDIA H200, 139.8 GiB; bf16", "computing on cpu: no NVIDIA driver is
// installed; f32"
std::string describe(const Compute& compute);

}  // namespace sg
