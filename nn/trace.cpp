#include "nn/trace.h"

#include "core/profile.h"

namespace sg::nn {
namespace {
thread_local Trace* g_trace = nullptr;
}

Trace::Trace() {
  check(!profile::running(), "trace: a profile, or another trace, is running");
  profile::start();
  g_trace = this;
}
Trace::~Trace() {
  g_trace = nullptr;
  profile::stop();
}

void trace(const std::string& name, const char* kind, const Tensor& output, int64_t parameters,
           double published_times) {
  if (!g_trace) return;
  double macs = 0;
  for (const auto& [op, row] : profile::take()) macs += published_times * row.macs;
  g_trace->rows_.push_back({name, kind, output.shape(), parameters, macs, output.bytes()});
}

}  // namespace sg::nn
