#include "nn/trace.h"

#include <utility>

namespace sg::nn {
namespace {
thread_local Trace* g_trace = nullptr;
}

Trace::Trace() {
  check(g_trace == nullptr, "trace: another one is alive");
  g_trace = this;
}
Trace::~Trace() { g_trace = nullptr; }

void trace(const std::string& name, const char* kind, const Tensor& output, int64_t parameters,
           double macs) {
  if (g_trace)
    g_trace->rows_.push_back({name, kind, output.shape(), parameters, macs, output.bytes()});
}

}  // namespace sg::nn
