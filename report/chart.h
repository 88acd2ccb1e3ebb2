// Line charts as inline SVG. Colours come from the page: classes "s1", "s2", ... in order of
// series.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace sg::report {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // x ascending; what is not finite is left out
};

struct Chart {
  std::string title, x_name;
  std::string format = "{:.3g}";  // of values
  std::vector<Series> series;
  bool from_zero = false;  // for values that are parts of each other
};

std::string svg(const Chart& chart);

// Round numbers that cover [low, high] in about `count` steps.
std::vector<double> ticks(double low, double high, int count);

// Text for HTML.
std::string escaped(std::string_view text);

}  // namespace sg::report
