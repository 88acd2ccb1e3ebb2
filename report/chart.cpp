#include "report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sg::report {
namespace {

constexpr double kWidth = 560, kHeight = 300, kLeft = 52, kRight = 62, kTop = 14, kBottom = 34;
constexpr size_t kMaxPoints = 500;  // of a line: more cannot be seen

struct Frame {
  double x0, x1, y0, y1;
  double x(double v) const { return kLeft + (v - x0) / (x1 - x0) * (kWidth - kLeft - kRight); }
  double y(double v) const {
    return kHeight - kBottom - (v - y0) / (y1 - y0) * (kHeight - kTop - kBottom);
  }
};

std::vector<std::pair<double, double>> drawable(const Series& s) {
  std::vector<std::pair<double, double>> all, result;
  for (const auto& p : s.points)
    if (std::isfinite(p.first) && std::isfinite(p.second)) all.push_back(p);
  // Means of neighbours, so that a long noisy line keeps its course.
  const size_t group = all.size() / kMaxPoints + 1;
  for (size_t i = 0; i < all.size(); i += group) {
    const size_t n = std::min(group, all.size() - i);
    double x = 0, y = 0;
    for (size_t j = i; j < i + n; ++j) x += all[j].first, y += all[j].second;
    result.emplace_back(x / double(n), y / double(n));
  }
  return result;
}

// Places labels next to the ends of their lines, moved apart where they would overlap.
std::vector<double> spread(std::vector<double> wanted, double gap) {
  std::vector<size_t> order(wanted.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](size_t i) { return wanted[i]; });
  for (size_t i = 1; i < order.size(); ++i)
    wanted[order[i]] = std::max(wanted[order[i]], wanted[order[i - 1]] + gap);
  double limit = kHeight - kBottom;
  for (size_t i = order.size(); i-- > 0; limit = wanted[order[i]] - gap)
    wanted[order[i]] = std::min(wanted[order[i]], limit);
  return wanted;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

std::vector<double> ticks(double low, double high, int count) {
  const double raw = (high - low) / count, power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (double factor : {5.0, 2.0, 1.0})
    if (factor * power >= raw * 0.999) step = factor * power;
  std::vector<double> result;
  for (double i = std::floor(low / step + 1e-9); i * step < high + step * 0.999; ++i)
    result.push_back(i * step);
  return result;
}

std::string svg(const Chart& chart) {
  std::vector<std::vector<std::pair<double, double>>> lines;
  double x0 = 0, x1 = 0, y0 = chart.from_zero ? 0 : INFINITY, y1 = -INFINITY;
  for (const Series& s : chart.series) {
    lines.push_back(drawable(s));
    for (const auto& [x, y] : lines.back())
      x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
  }
  if (!(y0 <= y1)) y0 = 0, y1 = 1;
  if (y1 - y0 < 1e-12) y0 = std::min(0.0, y0), y1 = y1 > y0 ? y1 : y0 + 1;
  const auto y_ticks = ticks(y0, y1, 5), x_ticks = ticks(x0, std::max(x1, 1.0), 6);
  const Frame f{x0, std::max(x1, 1.0), y_ticks.front(), y_ticks.back()};

  std::string out = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
                                kWidth, kHeight, escaped(chart.title));
  for (double v : y_ticks)
    out += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text class=\"tick\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
        kLeft, kWidth - kRight, f.y(v), f.y(v), kLeft - 8, f.y(v) + 4,
        std::abs(v) < 1e-12 ? "0" : fmt::format("{:g}", v));
  for (double v : x_ticks)
    if (v <= f.x1)
      out += fmt::format(
          "<text class=\"tick\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:g}</text>\n", f.x(v),
          kHeight - kBottom + 18, v);
  out += fmt::format("<text class=\"tick\" x=\"{}\" y=\"{}\">{}</text>\n", kWidth - kRight + 10,
                     kHeight - kBottom + 18, escaped(chart.x_name));

  std::vector<double> ends;
  for (const auto& line : lines) ends.push_back(line.empty() ? kTop : f.y(line.back().second));
  const std::vector<double> labels = spread(ends, 14);
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto& line = lines[i];
    if (line.empty()) continue;
    std::string path;
    for (const auto& [x, y] : line)
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", f.x(x), f.y(y));
    out += fmt::format("<path class=\"line s{}\" d=\"{}\"/>\n", i + 1, path);
    // A handful of points can be pointed at, the last one always.
    for (size_t j = line.size() > 60 ? line.size() - 1 : 0; j < line.size(); ++j)
      out += fmt::format(
          "<circle class=\"dot s{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"><title>{}, {} {:g}: "
          "{}</title></circle>\n",
          i + 1, f.x(line[j].first), f.y(line[j].second), j + 1 == line.size() ? 4 : 2.5,
          escaped(chart.series[i].name), escaped(chart.x_name), line[j].first,
          fmt::format(fmt::runtime(chart.format), line[j].second));
    out += fmt::format("<text class=\"label\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
                       f.x(line.back().first) + 9, labels[i] + 4,
                       fmt::format(fmt::runtime(chart.format), line.back().second));
  }
  return out + "</svg>\n";
}

}  // namespace sg::report
