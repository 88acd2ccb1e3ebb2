// Images that a person names, and what is written of them.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sg::tools {

// The images that arguments stand for, in their order: a file; a folder, for the images in it and
// deeper, by name; @FILE, for the paths that are its lines; -, for those on standard input. Throws
// ExitCode::data where a folder or list has none or cannot be read.
std::vector<std::string> find_images(const std::vector<std::string>& arguments);

struct Guess {
  int64_t index;
  std::string name;  // of the class
  double probability;
};
// The most probable classes of logits f32, `count` of them; throws ExitCode::nonfinite.
std::vector<Guess> best_guesses(std::span<const float> logits,
                                const std::vector<std::string>& class_names, int64_t count);

struct ImageResult {
  std::string image;
  std::vector<Guess> classes;  // the most probable first
  std::string label;           // where it is known
  std::string error;           // why it could not be read
};

// {"image": ..., "classes": [{"index", "name", "probability"}]}, "label" where there is one; of an
// image that cannot be read {"image", "error"}.
nlohmann::json to_json(const ImageResult& result);
// image,label,rank,index,name,probability,error: a row a class.
std::string results_csv(const std::vector<ImageResult>& results);
// JSON text; bytes of file names that are no UTF-8 are replaced.
std::string json_text(const nlohmann::json& json, int indent = 2);

// Writes .csv, .json (an array) or .jsonl (an object a line), by the ending.
void write_results(const std::filesystem::path& path, const std::vector<ImageResult>& results);
// Throws ExitCode::usage on another ending: before anything is computed.
void check_results_file(const std::filesystem::path& path);

// The weights that --checkpoint means: a file, or of a run's folder its best (else last)
// checkpoint, which is said on standard error. Throws ExitCode::checkpoint where there is none.
std::filesystem::path find_weights(const std::string& path);

}  // namespace sg::tools
