#include "report/report.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "data/png_write.h"
#include "report/chart.h"
#include "report/console.h"
#include "report/matrix_image.h"
#include "report/report_style.h"
#include "report/run_log.h"

namespace sg::report {
namespace {

double number(const nlohmann::json& row, const std::string& key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>() : NAN;
}

std::vector<const nlohmann::json*> epoch_rows(const Report& r) {
  std::vector<const nlohmann::json*> rows;
  for (const auto& row : r.rows)
    if (is_epoch_row(row)) rows.push_back(&row);
  return rows;
}

// x of an epoch's result is the number of epochs done by then.
Series of_epochs(const Report& r, const std::string& name, const std::string& key) {
  Series s{name, {}};
  for (const auto* row : epoch_rows(r))
    s.points.emplace_back(number(*row, "step") / double(r.epoch_steps), number(*row, key));
  return s;
}

Series of_steps(const Report& r, const std::string& name, const std::string& key) {
  Series s{name, {}};
  for (const auto& row : r.rows)
    if (!is_epoch_row(row))
      s.points.emplace_back(number(row, "step") / double(r.epoch_steps), number(row, key));
  return s;
}

std::string chart(const std::string& title, const std::string& format, std::vector<Series> series,
                  bool from_zero = false) {
  std::erase_if(series, [](const Series& s) {
    return std::ranges::none_of(s.points, [](const auto& p) { return std::isfinite(p.second); });
  });
  std::string keys;
  if (series.size() > 1)
    for (size_t i = 0; i < series.size(); ++i)
      keys += fmt::format("<span><i style=\"background:var(--s{})\"></i>{}</span>", i + 1,
                          escaped(series[i].name));
  return fmt::format(
      "<figure class=\"card\" style=\"margin:0\"><h3>{}</h3><div "
      "class=\"keys\">{}</div>{}</figure>\n",
      escaped(title), keys, svg({title, "epoch", format, std::move(series), from_zero}));
}

std::string tile(const std::string& value, const std::string& name) {
  return fmt::format("<div class=\"card\"><b>{}</b><span>{}</span></div>\n", escaped(value),
                     escaped(name));
}

// "none" where an epoch has no such number.
std::string shown(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : "none";
}

std::string tiles(const Report& r) {
  const auto rows = epoch_rows(r);
  std::vector<double> speeds;
  for (const auto& row : r.rows)
    if (const double v = number(row, "images_per_second"); std::isfinite(v)) speeds.push_back(v);
  std::string out;
  if (!rows.empty()) {
    const nlohmann::json* best = r.scores.empty() ? nullptr : best_row(r.rows, r.scores[0]);
    for (const ScoreInfo& s : r.scores)
      if (best)
        out += tile(
            shown(number(*best, "eval_" + s.name), s.digits) + (s.unit.empty() ? "" : " " + s.unit),
            s.title + (&s == &r.scores[0]
                           ? fmt::format(", best of all (epoch {:g})", number(*best, "epoch") + 1)
                           : " of that epoch"));
    if (!best) out += tile("none", "no epoch has a finite score");
    out += tile(duration(number(*rows.back(), "seconds")), "training and evaluating");
  }
  if (!speeds.empty()) {
    std::ranges::nth_element(speeds, speeds.begin() + int64_t(speeds.size() / 2));
    out += tile(fmt::format("{:.0f}", speeds[speeds.size() / 2]), "images a second, training");
  }
  out += tile(fmt::format("{:.2f} M", 1e-6 * double(r.parameters)), "parameters");
  return "<div class=\"tiles\">\n" + out + "</div>\n";
}

std::string heading(const std::string& title, const std::string& text) {
  return fmt::format("<h2>{}</h2>\n<p class=\"above\">{}</p>\n", escaped(title), escaped(text));
}

// Each line but the first is cut where it is longer than the page is wide.
std::string lines(const std::string& text) {
  const size_t first = text.find('\n');
  std::string out = escaped(text.substr(0, first));
  for (size_t at = first; at != text.npos;) {
    const size_t end = text.find('\n', at + 1);
    out += fmt::format("<span>{}</span>", escaped(text.substr(at + 1, end - at - 1)));
    at = end;
  }
  return out;
}

const char* mark_of(const Gallery::Item& item) {
  if (!item.good) return "";
  return *item.good ? "right" : "wrong";
}

std::string gallery(const Gallery& g) {
  if (g.items.empty()) return "";
  std::string out =
      heading(g.title, g.text) + fmt::format("<div class=\"samples{}\">\n", g.wide ? "" : " small");
  for (const Gallery::Item& s : g.items)
    out += fmt::format(
        "<div class=\"card sample\" title=\"{0}\"><img alt=\"{0}\" "
        "src=\"data:image/png;base64,{1}\"><p class=\"{2}\"><strong>{3}</strong> {4}</p></div>\n",
        escaped(s.description), base64(s.png), mark_of(s), escaped(s.headline), lines(s.note));
  return out + "</div>\n";
}

// At its size where the page is so wide, at no less than half of it; wider than the page, it
// scrolls.
std::string matrix(const Matrix& m) {
  const data::Image image = matrix_image(m);
  const auto png = data::encode_png(image);
  return heading(m.title, m.text) +
         fmt::format(
             "<div class=\"card scroll\"><img class=\"matrix\" style=\"width: min({}px, max(100%, "
             "{}px))\" alt=\"{}\" src=\"data:image/png;base64,{}\"></div>\n",
             image.width, image.width / 2, escaped(m.title),
             base64({reinterpret_cast<const char*>(png.data()), png.size()}));
}

std::string table(const Table& t) {
  std::string out = heading(t.title, t.text) + "<div class=\"card scroll tall\"><table><tr>";
  const auto cell = [&](const char* tag, size_t column, const std::string& text) {
    const bool number = column > 0 && column + 1 < t.columns.size();
    out += fmt::format("<{0}{1}>{2}</{0}>", tag, number ? " class=\"number\"" : "", escaped(text));
  };
  for (size_t c = 0; c < t.columns.size(); ++c) cell("th", c, t.columns[c]);
  out += "</tr>\n";
  for (const auto& row : t.rows) {
    out += "<tr>";
    for (size_t c = 0; c < row.size(); ++c) cell("td", c, row[c]);
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string findings(const Findings& f) {
  std::string out;
  for (const std::string& note : f.notes)
    out += fmt::format("<p class=\"note\">{}</p>\n", escaped(note));
  for (const Matrix& m : f.matrices) out += matrix(m);
  for (const Table& t : f.tables) out += table(t);
  for (const Gallery& g : f.galleries) out += gallery(g);
  return out;
}

// Runs of several processes log what their sums took (report.h).
bool communicates(const Report& r) {
  return std::ranges::any_of(r.rows, [](const auto& row) {
    return is_epoch_row(row) && std::isfinite(number(row, "comm_seconds"));
  });
}

// Of an epoch's steps: computation, sums, and the share of these that computation hid.
std::string communication_cells(const nlohmann::json& row) {
  const double step = number(row, "step_seconds"), sums = number(row, "comm_seconds"),
               exposed = number(row, "comm_exposed_seconds");
  const double computing = step * (1 - number(row, "data_share")) - exposed;
  std::string out;
  for (const double seconds : {computing, sums})
    out += fmt::format("<td class=\"number\">{}</td>",
                       std::isfinite(seconds) ? fmt::format("{:.1f} ms", 1e3 * seconds) : "");
  const double hidden = 1 - exposed / sums;  // of an epoch of one process there are no sums
  return out + fmt::format("<td class=\"number\">{}</td>",
                           std::isfinite(hidden) ? fmt::format("{:.0f} %", 100 * hidden) : "");
}

std::string history(const Report& r) {
  const bool communication = communicates(r);
  std::string out =
      "<h2>Epochs</h2><div class=\"card scroll\"><table><tr><th>epoch</th>"
      "<th class=\"number\">learning rate</th><th class=\"number\">training loss</th>";
  const ScoreSchema scores = columns(r.scores);
  for (const ScoreInfo& s : scores)
    out += fmt::format("<th class=\"number\">{}</th>", escaped(s.title));
  if (communication)
    out +=
        "<th class=\"number\">computing, a step</th><th class=\"number\">communication, a step</th>"
        "<th class=\"number\">of it hidden</th>";
  out += "<th class=\"number\">waited for data</th><th class=\"number\">time</th></tr>\n";
  const auto rows = epoch_rows(r);
  for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
    out += fmt::format(
        "<tr><td>{:g}</td><td class=\"number\">{:.2e}</td><td class=\"number\">{}</td>",
        number(**row, "epoch") + 1, number(**row, "lr"), shown(number(**row, "train_loss"), 4));
    for (const ScoreInfo& s : scores)  // the loss as that of training
      out += fmt::format("<td class=\"number\">{}</td>",
                         shown(number(**row, "eval_" + s.name), s.name == "loss" ? 4 : s.digits));
    if (communication) out += communication_cells(**row);
    const double waited = number(**row, "data_share");  // rows of an earlier version lack it
    out += fmt::format("<td class=\"number\">{}</td><td class=\"number\">{}</td></tr>\n",
                       std::isfinite(waited) ? fmt::format("{:.0f} %", 100 * waited) : "",
                       duration(number(**row, "seconds")));
  }
  return out + "</table></div>\n";
}

std::string configuration(const Report& r) {
  std::string out =
      "<h2>Configuration</h2><p class=\"above\">Coloured: not the default of this model.</p>"
      "<div class=\"card options\">\n";
  for (const Setting& o : r.configuration)
    out +=
        fmt::format("<div title=\"{}\"><span>{}</span><code{}>{}</code></div>\n", escaped(o.help),
                    escaped(o.name), o.changed ? " class=\"changed\"" : "", escaped(o.value));
  return out + "</div>\n";
}

std::string machine_table() {
  std::string out = "<h2>Machine</h2><div class=\"card options\">\n";
  for (const auto& [name, value] : machine())
    out +=
        fmt::format("<div><span>{}</span><code>{}</code></div>\n", escaped(name), escaped(value));
  return out + "</div>\n";
}

}  // namespace

std::string grouped(int64_t n) {
  std::string text = std::to_string(n);
  for (int64_t i = int64_t(text.size()) - 3; i > 0; i -= 3) text.insert(size_t(i), ",");
  return text;
}

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t word = 0;
    for (size_t j = 0; j < 3; ++j)
      word = word << 8 | (i + j < bytes.size() ? uint8_t(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j)
      out += i + j <= bytes.size() ? kDigits[word >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

// Pages of an earlier version have no generator, but the style that begins so.
bool is_own_report(const std::string& html) {
  const std::string_view begin = std::string_view(html).substr(0, 4096);
  return begin.starts_with("<!doctype html>") &&
         (begin.find("<meta name=\"generator\" content=\"sgtrain\">") != std::string::npos ||
          begin.find("--page: #f6f7f9; --card: #ffffff; --ink: #16191d") != std::string::npos);
}

std::string report_html(const Report& r) {
  const auto rows = epoch_rows(r);
  const bool ema = !rows.empty() && std::ranges::any_of(r.scores, [&](const ScoreInfo& s) {
    return rows.back()->contains("eval_model_" + s.name);
  });
  const std::string scored = ema ? "validation, averaged weights" : "validation";
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"generator\" content=\"sgtrain\">\n"
      "<title>{0}</title>\n<style>{1}</style></head>\n<body><main>\n<h1>{0}</h1>\n"
      "<p>{2} Epoch {3} of {4}{5}, {6:%Y-%m-%d %H:%M}.</p>\n",
      escaped(r.title), kReportStyle, escaped(r.data),
      rows.empty() ? 0 : number(*rows.back(), "epoch") + 1, r.epochs,
      r.finished ? ", finished" : "", fmt::localtime(std::time(nullptr)));
  out += tiles(r) + "<h2>Curves</h2>\n<div class=\"charts\">\n";
  for (const ScoreInfo& s : r.scores)
    if (!s.chart.empty())
      out += chart(s.chart + (s.unit.empty() ? "" : ", " + s.unit),
                   fmt::format("{{:.{}f}}", std::max(s.digits - 1, 0)),
                   {of_epochs(r, scored, "eval_" + s.name),
                    of_epochs(r, "validation, last weights", "eval_model_" + s.name)});
  out += chart("Loss", "{:.3f}",
               {of_epochs(r, scored, "eval_loss"), of_epochs(r, "training", "train_loss"),
                of_epochs(r, "validation, last weights", "eval_model_loss")});
  out += chart("Training loss by step", "{:.2f}", {of_steps(r, "loss", "loss")});
  out += chart("Learning rate", "{:.1e}", {of_steps(r, "rate", "lr")});
  if (communicates(r))
    out +=
        chart("Seconds of a step", "{:.3g}",
              {of_epochs(r, "step", "step_seconds"), of_epochs(r, "communication", "comm_seconds"),
               of_epochs(r, "communication that is not hidden", "comm_exposed_seconds")},
              true);
  out += "</div>\n" + gallery(r.samples) + findings(r.findings) + history(r) + configuration(r) +
         machine_table();
  return out + "</main></body></html>\n";
}

}  // namespace sg::report
