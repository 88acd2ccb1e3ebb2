#include "tools/common/table.h"

#include <fmt/core.h>

#include <algorithm>

namespace sg::tools {

void print(const Table& table) {
  std::vector<size_t> widths;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    widths.push_back(table.columns[c].size());
    for (const auto& row : table.rows) widths[c] = std::max(widths[c], row[c].size());
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t c = 0; c < cells.size(); ++c)
      text += c == 0 || c + 1 == cells.size() ? fmt::format("{:<{}}  ", cells[c], widths[c])
                                              : fmt::format("{:>{}}  ", cells[c], widths[c]);
    fmt::print("{}\n", text.substr(0, text.find_last_not_of(' ') + 1));
  };
  line(table.columns);
  for (const auto& row : table.rows) line(row);
}

}  // namespace sg::tools
