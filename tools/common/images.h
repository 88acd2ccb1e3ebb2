// Images that a person names, and what is written of them.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "data/class_names.h"
#include "tools/common/output_file.h"

namespace sg::tools {

// The images that arguments stand for, in their order: a file; a folder, for the images in it and
// deeper, by name; @FILE, for the paths that are its lines; -, for those on standard input. Throws
// ExitCode::data where a folder or list has none or cannot be read.
std::vector<std::string> find_images(const std::vector<std::string>& arguments);

struct Guess {
  int64_t index;
  std::string name, title;  // of the class; title: readable, where there is one
  double probability;
};
// The most probable classes of logits f32, `count` of them; throws ExitCode::nonfinite.
std::vector<Guess> best_guesses(std::span<const float> logits, const data::ClassNames& names,
                                const data::ClassTitles& titles, int64_t count);

struct ImageResult {
  std::string image;
  std::vector<Guess> classes;  // the most probable first
  std::string label;           // where it is known
  std::string error;           // why it could not be read
};

// {"image": ..., "classes": [{"index", "name", "probability"}]}, "title" and "label" where there
// are such; of an image that cannot be read {"image", "error"}. Names are escaped (core/text.h).
nlohmann::json to_json(const ImageResult& result);
// image,label,rank,index,name,probability,error: a row a class.
std::string results_csv(const std::vector<ImageResult>& results);

// Writes .csv, .json (an array) or .jsonl (an object a line), by the ending.
void write_results(const std::filesystem::path& path, const std::vector<ImageResult>& results);
// Before anything is computed: throws ExitCode::usage on another ending, or where a file is there
// that `read` names or that is no such results (tools/common/output_file.h).
void check_results_file(const std::filesystem::path& path, const InputFiles& read);

// The weights that --checkpoint means: a file, or of a run's folder its best (else last)
// checkpoint, which is said on standard error. Throws ExitCode::checkpoint where there is none.
std::filesystem::path find_weights(const std::string& path);

}  // namespace sg::tools
