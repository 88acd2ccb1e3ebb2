#include "core/cuda/cudnn.h"

#include "core/cuda/libraries.h"
#include "core/error.h"

namespace sg::cuda::cudnn {
namespace {

const char* const kFile = "libcudnn.so.9";

}  // namespace

Api::Api()
    : library({.file = kFile,
               .purpose = "convolutions by cuDNN",
               .folders = library_folders(kFile),
               .advice = "install it (apt: libcudnn9-cuda-13; pip: nvidia-cudnn-cu13, which "
                         "PyTorch brings) and see that its folder is in LD_LIBRARY_PATH"}) {}

std::string Api::version() const {
  const size_t v = get_version();
  return fmt::format("cuDNN {}.{}.{}", v / 10000, v % 10000 / 100, v % 100);
}

std::string Api::describe(const char* call, Status status) const {
  char words[1024] = "";
  last_error(words, sizeof words);
  std::string text = fmt::format("{} failed: {} ({}){}{}", call, error_string(status), status,
                                 *words ? ": " : "", words);
  if (status == kSublibraryVersionMismatch || status == kSublibraryLoadingFailed ||
      status == kSublibraryUnavailable)
    text += fmt::format(
        "; beside {} must lie libcudnn_graph, _ops, _cnn, _heuristic and _engines_* of the same "
        "version, and no others in LD_LIBRARY_PATH",
        library.path());
  return text;
}

}  // namespace sg::cuda::cudnn
