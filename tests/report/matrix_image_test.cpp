#include "report/matrix_image.h"

#include "tests/support/files.h"

using namespace sg;

namespace {

Matrix matrix(int n) {
  Matrix m{.title = "m",
           .text = "",
           .row_axis = "is",
           .column_axis = "taken for",
           .names = {},
           .counts = std::vector<int64_t>(size_t(n) * size_t(n))};
  for (int i = 0; i < n; ++i) m.names.push_back("class " + std::to_string(i));
  return m;
}

// Pixels of each kind: blue is right, red is wrong.
struct Seen {
  int64_t blue = 0, red = 0, dark = 0;
};
Seen seen(const data::Image& image) {
  Seen s;
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    const int r = image.pixels[i], g = image.pixels[i + 1], b = image.pixels[i + 2];
    s.blue += b > r + 60, s.red += r > b + 60, s.dark += r + g + b < 150;
  }
  return s;
}

}  // namespace

TEST_CASE("matrix_image: what is right is blue, what is wrong red, names and counts are written") {
  Matrix m = matrix(3);
  const Seen none = seen(report::matrix_image(m));
  CHECK(none.blue == 0);
  CHECK(none.red == 0);
  CHECK(none.dark > 500);  // the names, in both directions
  m.counts = {5, 0, 0, 0, 5, 0, 0, 0, 5};
  CHECK(seen(report::matrix_image(m)).blue > 1000);
  CHECK(seen(report::matrix_image(m)).red == 0);
  m.counts[1] = 5;  // row 0, column 1: right of the diagonal
  const data::Image image = report::matrix_image(m);
  CHECK(seen(image).red > 300);
  int rightmost_red = 0, lowest_red = 0;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      if (image.row(y)[x * 3] > image.row(y)[x * 3 + 2] + 60)
        rightmost_red = std::max(rightmost_red, x), lowest_red = std::max(lowest_red, y);
  CHECK(rightmost_red > image.width / 2);
  CHECK(lowest_red < image.height * 3 / 4);
}

TEST_CASE("matrix_image: any number of classes, any names") {
  for (const int n : {1, 2, 60, 61, 1000}) {
    CAPTURE(n);
    Matrix m = matrix(n);
    for (int i = 0; i < n; ++i) m.counts[size_t(i) * size_t(n) + size_t(i)] = 1;
    const data::Image image = report::matrix_image(m);
    CHECK(image.height <= 4096);
    CHECK(image.width <= 4096);
    CHECK(seen(image).blue >= n);
  }
  Matrix odd = matrix(2);
  odd.names = {"th\xc3\xa9 \xff", std::string(500, 'x')};
  CHECK(report::matrix_image(odd).width < 1500);
  odd.counts.pop_back();
  test::error_of(ExitCode::failure, [&] { report::matrix_image(odd); });
}

TEST_CASE("matrix_image: counts of pixels are written short, and cells stay narrow") {
  Matrix few = matrix(60), many = matrix(60);
  for (int64_t& c : few.counts) c = 9999;
  for (int64_t& c : many.counts) c = 1234567890;
  const data::Image a = report::matrix_image(few), b = report::matrix_image(many);
  CHECK(b.width <= a.width);
  CHECK(b.width <= 4096);
}
