// Tensors between CPU ranks, by Gloo.
#pragma once
#include <memory>

#include "dist/communicator.h"
#include "dist/control.h"

namespace sg::dist {

// Collective. Throws ExitCode::peer where a rank is lost. An all-reduce is one exchange of parts,
// a sum in the order of ranks, and one exchange of the sums: each element is added in the same
// order whatever slice it is part of. With Wire::bf16 it is rounded once on each rank, and its sum
// once. Takes f32, bf16, f64 and i32.
std::unique_ptr<Communicator> gloo_communicator(Control& control);

}  // namespace sg::dist
