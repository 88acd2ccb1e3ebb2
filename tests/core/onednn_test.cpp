#include "core/cpu/onednn.h"

#include <doctest/doctest.h>

using namespace sg;

TEST_CASE("oneDNN: a primitive that is held stays what it is while others are made, without end") {
  using dnnl::memory;
  const memory::desc rows({2, 3}, memory::data_type::f32, memory::dims{3, 1}),
      columns({2, 3}, memory::data_type::f32, memory::dims{1, 2});
  const Tensor from = from_vector<float>({1, 2, 3, 4, 5, 6}, {6});
  for (int64_t i = 0; i < 50; ++i) {
    CAPTURE(i);
    onednn::Ready& held = onednn::cached({'t', i}, [&] {
      const dnnl::reorder::primitive_desc pd(onednn::engine(), rows, onednn::engine(), columns,
                                             onednn::Ready::attributes());
      return onednn::Ready(dnnl::reorder(pd), pd.scratchpad_desc(),
                           {{DNNL_ARG_FROM, rows}, {DNNL_ARG_TO, columns}});
    });
    for (int64_t k = 1; k <= 100; ++k)
      CHECK(!onednn::cached({'t', i, k}, [] { return onednn::Ready(); }));
    Tensor to = empty({6});
    held.run({from.raw(), to.raw()});
    CHECK(to_vector<float>(to) == std::vector<float>{1, 4, 2, 5, 3, 6});
  }
}

TEST_CASE("oneDNN: what is known of several primitives is kept as they are, apart from them") {
  CHECK(!onednn::cached({'u'}, [] { return onednn::Ready(); }));
  CHECK(onednn::cached({'u'}, [] { return 7; }) == 7);
  CHECK(onednn::cached({'u'}, [] { return 8; }) == 7);
}
