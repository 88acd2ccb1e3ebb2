// Images that a person names, and what is written of them.
#pragma once
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/class_names.h"
#include "data/image.h"
#include "tools/common/output_file.h"

namespace sg::tools {

// The images that arguments stand for, in their order: a file; a folder, for the images in it and
// deeper, by name; @FILE, for the files and folders that are its lines; -, for those on standard
// input. Zero bytes may stand between them in place of line ends. Throws ExitCode::data where a
// folder or list has none or cannot be read.
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

// A field of CSV, in quotes where it needs them.
std::string csv_field(const std::string& text);

// First lines of CSV: a row a class, of classification and of segmentation; a row an object.
constexpr std::string_view kGuessColumns = "image,label,rank,index,name,probability,error\n";
constexpr std::string_view kShareColumns =
    "image,labels,overlay,significance,rank,index,name,share,error\n";
constexpr std::string_view kObjectColumns =
    "image,objects,index,category_id,name,score,x,y,width,height,area,error\n";

// Writes results one after the other, so that those of a run that was ended are there: CSV, JSON
// (an array, which ends with finish()) or JSON lines. Throws ExitCode::failure where that cannot be
// done.
class ResultWriter {
 public:
  // A new file, or one in place of that of an earlier run (check_results_file()).
  explicit ResultWriter(const std::filesystem::path& path,
                        std::string_view columns = kGuessColumns);
  // `ending`: ".csv" or ".json"
  ResultWriter(std::FILE* out, std::string ending, std::string_view columns = kGuessColumns);

  void add(const ImageResult& result);
  // A result in both forms: as JSON, and as rows of CSV with their ends of line.
  void add(const nlohmann::json& object, const std::string& rows);
  void flush();
  void finish();

 private:
  void write(std::string_view text);
  [[noreturn]] void failed() const;

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string name_, ending_;
  std::unique_ptr<std::FILE, Close> owned_;
  std::FILE* out_;
  int64_t added_ = 0;
};

// Atomically, but not synced: it can be made again, and for thousands of images a sync each would
// take longer than the model.
void write_png(const std::filesystem::path& path, const data::Image& image);

// Before anything is computed: throws ExitCode::usage on another ending, or where a file is there
// that `read` names or that is no such results (tools/common/output_file.h).
void check_results_file(const std::filesystem::path& path, const InputFiles& read);

}  // namespace sg::tools
