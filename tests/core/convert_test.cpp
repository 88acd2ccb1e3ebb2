#include "core/cpu/convert.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

namespace sg {
namespace {

TEST_CASE("rows are converted as their elements are, whatever their length, and nothing behind") {
  for (const size_t n : {0, 1, 15, 16, 17, 64, 100}) {
    CAPTURE(n);
    std::vector<float> wide(n + 1, 7), back(n + 1, 7);
    std::vector<bf16> narrow(n + 1, bf16(7));
    for (size_t i = 0; i < n; ++i) wide[i] = std::ldexp(1.0f + float(i) / 129, int(i) - 50);
    convert(wide.data(), narrow.data(), int64_t(n));
    convert(narrow.data(), back.data(), int64_t(n));
    for (size_t i = 0; i < n; ++i) {
      CHECK(narrow[i].bits == bf16(wide[i]).bits);
      CHECK(back[i] == float(bf16(wide[i])));
    }
    CHECK(float(narrow[n]) == 7);
    CHECK(back[n] == 7);
  }
}

}  // namespace
}  // namespace sg
