// Convolutions by cuDNN, for those whose channels are wide (ops/conv2d chooses).
//
// Two runs give the same bits: of the engines that cuDNN's heuristics name (mode A, then its
// fallbacks), best first, the first is taken that is deterministic, computes and adds in f32 what
// it is asked for (in f32 without TF32 or conversion of inputs), and needs at most kMaxWorkspace.
// It depends on the convolution, the version of cuDNN and the kind of GPU, not on timing or free
// memory. A plan is made when a convolution first occurs, which must not be while work is captured
// (a Graph issues everything once before), and kept to the end of the program.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace sg {
struct Stream;
}

namespace sg::cuda {

constexpr int64_t kMaxWorkspace = int64_t{128} << 20;

enum class ConvolutionPass { forward, input_gradient, weight_gradient };

// x (batch, height, width, channels), w (filters, kernel_height, kernel_width, channels), y (batch,
// rows, columns, filters), all of `dtype`, f32 or bf16. Sums are f32.
struct Convolution {
  Dtype dtype;
  int64_t batch, height, width, channels;
  int64_t rows, columns, filters;
  int64_t kernel_height, kernel_width, stride;
  int64_t top, left, bottom, right;  // rows and columns of zeros
};

// Forward writes y, the others x or w, which are gradients then, and so is y. False, and nothing
// done, where cuDNN is missing, which a warning says once, or has no engine for it. Throws
// ExitCode::failure naming the convolution where cuDNN fails.
[[nodiscard]] bool cudnn_convolution(Stream& stream, ConvolutionPass pass, const Convolution& c,
                                     const void* x, const void* w, const void* y);

// "cuDNN 9.19.0 (/usr/lib/...)", or "own kernels: the library libcudnn.so.9 could not ...".
std::string describe_cudnn();
// The convolutions that cuDNN was asked for so far, each with its engine and knobs, or why it has
// none; sorted.
std::vector<std::string> cudnn_choices();
// What it would choose on a GPU that is described by cuDNN's JSON of device properties; needs no
// GPU. Throws ExitCode::usage where cuDNN is missing.
std::string cudnn_choice(ConvolutionPass pass, const Convolution& c,
                         const std::string& device_properties);

}  // namespace sg::cuda
