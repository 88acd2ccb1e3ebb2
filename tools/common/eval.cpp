#include "tools/common/eval.h"

#include "core/text.h"
#include "io/checkpoint.h"

namespace sg::tools {

void refuse_flags(const CLI::App& app, const std::vector<std::string>& flags,
                  std::string_view task) {
  for (const std::string& flag : flags)
    if (app.count(flag))
      fail(ExitCode::usage, "{}: the checkpoint is of {}, which has no such flag; leave it out",
           flag, task);
}

std::string cause_of(const nn::ParameterStore& parameters) {
  std::vector<NamedTensor> weights;
  for (const std::string& name : parameters.names())
    weights.emplace_back(name, parameters.get(parameters.values(), name));
  const std::string name = first_not_finite(weights);
  return name.empty() ? "its weights are finite, but so large that what they compute is not"
                      : fmt::format("tensor '{}' holds values that are not finite", name);
}

void say_remarks(std::vector<std::string>& remarks, report::Console& console) {
  for (std::string& remark : remarks) {
    remark = escape_odd_bytes(remark);
    console.line(remark);
  }
}

}  // namespace sg::tools
