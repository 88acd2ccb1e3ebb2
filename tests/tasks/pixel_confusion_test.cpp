#include "tasks/pixel_confusion.h"

#include <algorithm>
#include <cmath>

#include "tests/support/files.h"

using namespace sg;
using tasks::PixelConfusion;

namespace {

PixelConfusion counted(int64_t classes, const std::vector<uint8_t>& labels,
                       const std::vector<uint8_t>& predictions, int ignore = 255) {
  PixelConfusion confusion(classes, ignore);
  confusion.add(labels, predictions);
  return confusion;
}

}  // namespace

TEST_CASE("pixel confusion: counts by class, IoU and accuracy") {
  // Class 2 is predicted but never labelled: IoU 0. Class 3 is absent.
  const auto c = counted(4, {0, 0, 0, 1, 1}, {0, 0, 1, 1, 2});
  CHECK(c.counts() == std::vector<int64_t>{2, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK(c.of(0).iou() == doctest::Approx(2.0 / 3));
  CHECK(c.of(1).iou() == doctest::Approx(1.0 / 3));
  CHECK(c.of(2).iou() == 0);
  CHECK(std::isnan(c.of(2).accuracy()));
  CHECK(c.of(3).absent());
  CHECK(std::isnan(c.of(3).iou()));
  CHECK(c.pixels() == 5);
  CHECK(c.scores().all_accuracy == doctest::Approx(3.0 / 5));
  CHECK(c.scores().mean_accuracy == doctest::Approx((2.0 / 3 + 1.0 / 2) / 2));
  CHECK(c.scores().mean_iou == doctest::Approx((2.0 / 3 + 1.0 / 3 + 0) / 3));
}

TEST_CASE("pixel confusion: ignored pixels count nowhere, whatever is predicted there") {
  const auto with = counted(3, {0, 255, 255, 1}, {0, 2, 1, 1});
  CHECK(with.counts() == counted(3, {0, 1}, {0, 1}).counts());
  CHECK(counted(3, {0, 2, 1}, {0, 0, 1}, 2).counts() == counted(3, {0, 1}, {0, 1}).counts());
  const auto none = counted(3, {255}, {1});
  CHECK(none.of(1).absent());
  for (const double v :
       {none.scores().all_accuracy, none.scores().mean_accuracy, none.scores().mean_iou})
    CHECK(std::isnan(v));
}

TEST_CASE("pixel confusion: sums over images in any order are those of all at once") {
  const std::vector<uint8_t> labels{0, 1, 2, 255, 1, 1, 0, 2, 2}, found{0, 2, 2, 0, 1, 0, 0, 1, 2};
  const auto part = [&](size_t begin, size_t end) {
    return counted(3, {labels.begin() + int64_t(begin), labels.begin() + int64_t(end)},
                   {found.begin() + int64_t(begin), found.begin() + int64_t(end)});
  };
  PixelConfusion sum = part(5, 9);
  sum.add(part(0, 2).counts()), sum.add(part(2, 5).counts());
  CHECK(sum.counts() == part(0, 9).counts());
}

TEST_CASE("pixel confusion: a label that is no class is an error of the data") {
  const std::string said = test::error_of(ExitCode::data, [] { counted(3, {0, 3}, {0, 0}); });
  CHECK(said == "label 3 of a pixel: expected a class below 3, or 255 (ignored)");
  test::error_of(ExitCode::failure, [] { counted(3, {0}, {3}); });
  test::error_of(ExitCode::failure, [] { counted(3, {0}, {0, 0}); });
}
