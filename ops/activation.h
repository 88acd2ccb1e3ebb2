// A pointwise function that an operation can apply to its result before storing it.
#pragma once

namespace sg {
enum class Activation { none, gelu };  // gelu: exact, x * Phi(x)
}  // namespace sg
