// A stand-in for cuDNN, as a shared library of its name: convolutions on the host, in order of the
// emulated stream, and what was asked of it. So core/cuda/cudnn_convolution.cpp runs where there is
// no GPU. It refuses what cuDNN refuses: attributes of another type or number, descriptors that are
// incomplete, not finalized or changed afterwards, sizes that do not fit each other.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/cuda/cudnn.h"

namespace sg::test {

struct FakeEngine {
  int64_t index = 0;
  std::vector<cuda::cudnn::Note> notes = {};
  int64_t workspace = 0;
  bool works = true;  // its plan can be finalized
};

struct FakeCudnn {
  int searches = 0, executions = 0, descriptors = 0;  // so far; that exist
  int handles = 0;
  int64_t last_engine = -1;    // of the last execution
  int64_t last_alignment = 0;  // of y in it
  void* last_workspace = nullptr;
  // What the heuristics name in mode A and as fallbacks, best first.
  std::vector<FakeEngine> engines{{.index = 7, .workspace = 1024}}, fallbacks;
  std::map<std::string, int> failing;  // call -> what it ends with
};
FakeCudnn& fake_cudnn();

}  // namespace sg::test
