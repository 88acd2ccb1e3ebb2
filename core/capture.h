// What captured work needs besides tensors, and that must outlive it.
#pragma once
#include <memory>

namespace sg {

// Called by work that a Graph runs (core/graph.h). While it is being captured, `thing` is kept
// until the capture has been dropped; else nothing is done.
void keep_with_capture(std::shared_ptr<void> thing);

}  // namespace sg
