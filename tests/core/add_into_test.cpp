#include "core/cpu/add_into.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/acc_type.h"

namespace sg {
namespace {

// Element i; of bf16 both signs, sums that need rounding, and a NaN.
template <class S>
S value(size_t i, double scale) {
  if (sizeof(S) == 2 && i == 40) return S(std::numeric_limits<float>::quiet_NaN());
  return S(AccType<S>(scale * (i % 3 ? 1 : -1) * std::ldexp(1 + double(i) / 129, int(i % 13) - 6)));
}

template <class S, class D = S>
void check_add() {
  using T = AccType<S>;
  CAPTURE(name_of(dtype_of<S>()));
  CAPTURE(name_of(dtype_of<D>()));
  for (const size_t n : {0, 1, 7, 15, 16, 17, 31, 32, 33, 64, 100}) {
    CAPTURE(n);
    std::vector<S> from(n + 1, S(T(7)));
    std::vector<D> to(n + 1, D(T(7)));
    for (size_t i = 0; i < n; ++i) from[i] = value<S>(i, 1), to[i] = value<D>(i, 0.3);
    const std::vector<D> before = to;
    add_into(from.data(), to.data(), int64_t(n));
    for (size_t i = 0; i < n; ++i) {
      const T expected = T(D(T(before[i]) + T(from[i])));
      CHECK((T(to[i]) == expected || (std::isnan(T(to[i])) && std::isnan(expected))));
    }
    CHECK(T(to[n]) == 7);
  }
}

TEST_CASE("arrays are added as their elements are, whatever their length, and nothing behind") {
  check_add<float>();
  check_add<double>();
  check_add<bf16>();
  check_add<bf16, float>();
}

}  // namespace
}  // namespace sg
