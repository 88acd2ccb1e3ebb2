// What an evaluation finds beside its scores, as plain data: a task makes it, programs and the
// report show it and know nothing of classes.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sg {

// Counts of pairs, both of `names`: row-major, counts[row * names.size() + column].
struct Matrix {
  std::string title, text;  // heading, and what is to be seen
  std::string row_axis, column_axis;
  std::vector<std::string> names;
  std::vector<int64_t> counts;
};

struct Table {
  std::string title, text;
  std::vector<std::string> columns;  // of numbers, all but the first
  std::vector<std::vector<std::string>> rows;
};

// Images with what is to be said of them: what a model makes of them, what they are to teach it.
struct Gallery {
  struct Item {
    std::string png;          // bytes of a file
    std::string description;  // for those who do not see it
    // Below it: what the model says, and how that compares, which may have several lines.
    std::string headline, note;
    std::optional<bool> good{};  // marked so, where it is one or the other
  };
  std::string title, text;
  std::vector<Item> items;
  bool wide = false;  // panels of several images, not single ones
};

struct Findings {
  std::vector<std::string> notes;  // sentences: images that were left out
  std::vector<Matrix> matrices;
  std::vector<Table> tables;
  std::vector<Gallery> galleries;
};

}  // namespace sg
