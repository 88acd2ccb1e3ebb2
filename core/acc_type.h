// What kernels compute in: storage and arithmetic are two types. A kernel loads S (f32, bf16 or
// f64), computes and sums in T = AccType<S>, and stores S. What is of the dtype acc_dtype(x) beside
// an x of S (statistics, sums, parameters that are no operand of a matmul) is T in memory too.
#pragma once
#include <type_traits>

#include "core/dtype.h"

namespace sg {

// acc_dtype() as a type. Conversions to and from it are casts: T(s), S(t).
template <class S>
using AccType = std::conditional_t<std::is_same_v<S, bf16>, float, S>;

static_assert(dtype_of<AccType<bf16>>() == acc_dtype(Dtype::bf16));
static_assert(dtype_of<AccType<float>>() == acc_dtype(Dtype::f32));
static_assert(dtype_of<AccType<double>>() == acc_dtype(Dtype::f64));

}  // namespace sg
