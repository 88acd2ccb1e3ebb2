// Checks augmentation and the evaluation chain against golden images made with Pillow, byte for
// byte. Everything is driven by a file's metadata.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace sg::tools {

struct ImageCheck {
  std::string kind;  // augment, eval_chain
  int equal = 0;     // images
  // "case.003 (Posterize): 12 of 18624 bytes differ, ..."
  std::vector<std::string> wrong;
  // "case.004 (Foo)": operations that are not known here.
  std::vector<std::string> not_checked;

  bool passed() const { return equal > 0 && wrong.empty(); }
};

// Has the file the metadata of either kind?
bool is_golden_images(const std::filesystem::path& file);

// Throws where the file, or a JPEG file beside it, is not of the golden form.
ImageCheck check_golden_images(const std::filesystem::path& file);

}  // namespace sg::tools
