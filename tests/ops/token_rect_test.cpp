#include "ops/attention/token_rect.h"

#include <doctest/doctest.h>

#include <initializer_list>

using namespace sg;

namespace {

template <class Int>
void check_tokens(Int y, Int x, Int h, Int w, Int stride) {
  const kernels::TokenRect<Int> r = kernels::token_rect(y, x, h, w, stride);
  REQUIRE(r.count == h * w);
  // Of a large rectangle some rows, and the ends of them.
  const Int row_step = h <= 100 ? 1 : h / 7, column_step = w <= 100 ? 1 : w - 1;
  for (Int row = 0; row < h; row += row_step)
    for (Int column = 0; column < w; column += column_step)
      REQUIRE(r.token(row * w + column) == (int64_t{y} + row) * stride + x + column);
}

template <class Int>
void check_rects() {
  for (const Int w : {1, 2, 3, 7, 56})
    for (const Int h : {1, 7, 56}) {
      check_tokens<Int>(0, 0, h, w, w);
      check_tokens<Int>(14, 0, h, w, w);
      check_tokens<Int>(14, 7, h, w, w + 9);
    }
  // The largest that division by multiplication serves, and the first that it does not.
  check_tokens<Int>(3, 5, 1023, 2048, 4096);
  check_tokens<Int>(3, 5, 1024, 2048, 4096);
  CHECK(kernels::token_rect<Int>(0, 0, 1023, 2048, 4096).inverse != 0);
  CHECK(kernels::token_rect<Int>(0, 0, 1024, 2048, 4096).inverse == 0);
}

}  // namespace

TEST_CASE("attention: tokens of a rectangle") {
  check_rects<int>();
  check_rects<int64_t>();
}
