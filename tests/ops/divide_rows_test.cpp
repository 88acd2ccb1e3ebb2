#include "ops/divide_rows/divide_rows.h"

#include "tests/support/files.h"
#include "tests/support/op_case.h"

using namespace sg;

TEST_CASE("divide_rows: each row by its own number, on every device") {
  for (const Device device : test::devices())
    for (const auto& [rows, columns] : {std::pair(1, 1), {3, 5}, {513, 8}, {70, 150}}) {
      CAPTURE(rows);
      const Tensor x = test::random({rows, columns}, 1).to(Dtype::f32);
      const Tensor by = test::random({rows}, 2, 1, 4).to(Dtype::f32);
      Tensor found = x.to(device).clone();
      divide_rows(found, by.to(device));
      const auto values = to_vector<float>(found.to(Device{}));
      for (int64_t i = 0; i < x.numel(); ++i)
        CHECK(values[size_t(i)] == x.data<float>()[i] / by.data<float>()[i / columns]);
    }
}

TEST_CASE("divide_rows: shapes and dtypes that do not fit are refused") {
  Tensor x = zeros({3, 4});
  test::error_of(ExitCode::failure, [&] { divide_rows(x, zeros({4})); });
  test::error_of(ExitCode::failure, [&] { divide_rows(x, zeros({3}, Dtype::f64)); });
}
