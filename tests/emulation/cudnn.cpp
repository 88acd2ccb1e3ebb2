// The emulation has no cuDNN: wide convolutions are done by our own kernels, which it tests.
// tests/cudnn has a stand-in.
#include "core/cuda/cudnn_convolution.h"

namespace sg::cuda {

bool cudnn_convolution(Stream&, ConvolutionPass, const Convolution&, const void*, const void*,
                       const void*) {
  return false;
}
std::string describe_cudnn() { return "own kernels: the emulated GPU has no cuDNN"; }
std::vector<std::string> cudnn_choices() { return {}; }

}  // namespace sg::cuda
