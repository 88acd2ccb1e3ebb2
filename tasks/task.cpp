#include "tasks/task.h"

namespace sg::tasks {

std::vector<uint64_t> Batch::shapes() const {
  if (any_shape) return {};
  std::vector<uint64_t> all;
  const auto add = [&](const Tensor& t) {
    all.push_back(t ? uint64_t(t.shape().size()) + 1 : 0);
    for (int d = 0; t && d < t.shape().size(); ++d) all.push_back(uint64_t(t.shape()[d]));
  };
  add(images), add(valid);
  for (const Tensor& t : targets) add(t);
  return all;
}

std::vector<uint64_t> Batch::key() const {
  std::vector<uint64_t> key = shapes();
  const auto add = [&](const Tensor& t) { key.push_back(t ? uint64_t(uintptr_t(t.raw())) : 0); };
  add(images), add(valid);
  for (const Tensor& t : targets) add(t);
  return key;
}

}  // namespace sg::tasks
