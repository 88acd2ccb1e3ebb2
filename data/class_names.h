// Names of classes: their order, which gives each its index, lists of them in files, and readable
// titles of names like n01440764. Names are escaped as in core/text.h.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sg::data {

using ClassNames = std::vector<std::string>;

enum class ClassOrder {
  name,    // by their bytes, as torchvision: 1, 10, 2
  natural  // numbers in them by value and letters without case, as timm: 1, 2, 10
};
// Throws ExitCode::usage naming the flag.
ClassOrder parse_class_order(std::string_view name);
void sort_classes(ClassNames& names, ClassOrder order);

// timm's class map: a class name per line, its index the number of the line from 0; or "name index"
// in every line, with all of 0 to n - 1. Of JSON [name, ...], {name: index} or {index: name}.
// Throws ExitCode::data naming file and line.
ClassNames read_class_map(const std::string& path);

// Readable titles by class name: "n01440764 tench, Tinca tinca" a line (LOC_synset_mapping.txt,
// synset_words.txt), {"n01440764": "tench"}, or {"0": ["n01440764", "tench"]}
// (imagenet_class_index.json). Throws ExitCode::data.
using ClassTitles = std::map<std::string, std::string>;
ClassTitles read_class_titles(const std::string& path);
// Reads such a file under a usual name in a data set's folder; nothing where there is none.
ClassTitles find_class_titles(const std::string& folder);

// The name of class c, or "class c" where there are fewer names.
std::string class_name(const ClassNames& names, int64_t c);

// "tench, Tinca tinca (n01440764)"; the name itself where it has no title.
std::string titled(const std::string& name, const ClassTitles& titles);

// Pairs that a reader may not be able to tell apart (a guess: accents are not compared): an
// accented letter or syllable is one character in the one (NFC, as most systems write it) and a
// letter with marks in the other (NFD, as macOS does).
std::vector<std::pair<std::string, std::string>> look_alikes(const ClassNames& names);

// "a, b, c and 7 more"
std::string some_of(const ClassNames& names);

}  // namespace sg::data
