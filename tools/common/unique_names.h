// Names of files made from those of images, of which several may have one name.
#pragma once
#include <set>
#include <string>
#include <vector>

namespace sg::tools {

class UniqueNames {
 public:
  // `stem`, or the first of stem-2, stem-3, ... for which none of the names with these endings has
  // been given out.
  std::string operator()(const std::string& stem, const std::vector<std::string>& endings) {
    const auto is_taken = [&](const std::string& name) {
      for (const std::string& ending : endings)
        if (taken_.contains(name + ending)) return true;
      return false;
    };
    std::string name = stem;
    for (int i = 2; is_taken(name); ++i) name = stem + "-" + std::to_string(i);
    for (const std::string& ending : endings) taken_.insert(name + ending);
    return name;
  }

 private:
  std::set<std::string> taken_;
};

}  // namespace sg::tools
